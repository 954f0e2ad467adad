"""The article's model: 2 source words, 6 + 6 layers, 3 decode steps, fixed weights."""

import warnings

import numpy as np
import peers
import pytest
from article_numpy import ArticleTransformer

import rtfast
from rtfast import kernels

STEPS = 3
SOURCE = [0, 2]  # hello world


@pytest.fixture(params=["float64", "float32"])
def model(request):
    """Without an EOS, so that there always are STEPS steps."""
    config = rtfast.Config.article(eos_id=None, dtype=request.param)
    return rtfast.Transformer.random(config, seed=0)


def test_generation_against_numpy(measure, model):
    peers.set_threads(1)
    article = ArticleTransformer(model.config, model.weights)
    positions = kernels.positional_encoding(16, 4, article=True, dtype=model.config.dtype)
    ours = model.generate(SOURCE, STEPS)
    assert ours == article.generate(SOURCE, positions, STEPS)
    expected = article.decode([6, *ours[:-1]], article.encode(SOURCE, positions), positions)
    assert np.allclose(model.trace(SOURCE, [6, *ours[:-1]])["probabilities"], expected, rtol=1e-4)
    measure("the article's model", f"encode, 3 decode steps, {model.config.dtype}",
            lambda: model.generate(SOURCE, STEPS),
            {"NumPy": lambda: article.generate(SOURCE, positions, STEPS)})


def test_forward_against_torch(measure, model):
    torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")
    peers.set_threads(1)
    heads = 2
    network = torch.nn.Transformer(4, heads, 6, 6, 8, dropout=0.0, batch_first=True).eval()
    dtype = getattr(torch, model.config.dtype)
    network.to(dtype)
    source, target = torch.randn(1, 2, 4, dtype=dtype), torch.randn(1, 3, 4, dtype=dtype)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=dtype)
    logits = model.logits(SOURCE, [6, 0, 1])
    assert logits.shape == (3, 10) and np.isfinite(logits).all()

    def forward():
        with torch.inference_mode():
            return network(source, target, tgt_mask=mask)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forward()
        measure("the article's model", f"one full forward, {model.config.dtype}",
                lambda: model.logits(SOURCE, [6, 0, 1]), {"torch": forward})
