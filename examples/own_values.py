"""The article's first encoder layer, with the article's own values, through a model: change them and look again."""

import numpy as np

import rtfast
from rtfast import article

config = rtfast.Config.article(n_encoder_layers=1, n_decoder_layers=0, attention_scale=article.SOFTER_SCALE)

# Start from seeded random values and put one's own in place of some of them.
weights = rtfast.Transformer.random(config, seed=0).weights
name = "encoder.layers.0.self_attention"
weights |= {
    f"{name}.query.weight": article.W_QUERY,  # one matrix per head, as in the article
    f"{name}.key.weight": article.W_KEY,
    f"{name}.value.weight": article.W_VALUE,
    f"{name}.output.weight": article.W_OUTPUT,
}

# The article rounds its positional encoding; the model adds its own, so the embedding makes up the difference.
positions = rtfast.kernels.positional_encoding(2, config.d_model, article=True)
embedding = weights["embedding.weight"].copy()
embedding[[0, 2]] = np.array(article.EMBEDDING) + article.POSITIONAL_ENCODING - positions
weights["embedding.weight"] = embedding

model = rtfast.Transformer(config, weights, rtfast.WordTokenizer(article.VOCABULARY))
trace = model.trace("hello world", [config.sos_id])
np.set_printoptions(precision=4, suppress=True)
for part in ("query", "key", "value", "scaled_scores", "weights", "heads", "output", "norm"):
    print(f"{name}.{part} {trace[f'{name}.{part}'].shape} = {trace.formula(f'{name}.{part}')}")
    print(trace[f"{name}.{part}"], "\n")
