"""The article's arithmetic in NumPy: one matrix per head, lists of heads, everything anew for each word.

It is written as the article writes it (functions on small arrays, a loop over heads), for the same
weights as a `rtfast.Transformer`, whose results it is checked against before anything is timed.
"""

import numpy as np


def softmax(x):
    powers = np.exp(x)
    return powers / powers.sum(axis=1, keepdims=True)


def attention(x, memory, w_query, w_key, w_value):
    q, k, v = x @ w_query, memory @ w_key, memory @ w_value
    scores = q @ k.T
    scores = scores / np.sqrt(k.shape[1])
    return softmax(scores) @ v


def masked_attention(x, w_query, w_key, w_value):
    q, k, v = x @ w_query, x @ w_key, x @ w_value
    scores = q @ k.T
    scores = scores / np.sqrt(k.shape[1])
    scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    return softmax(scores) @ v


def layer_norm(x, epsilon=1e-6):
    mean = x.mean(axis=-1, keepdims=True)
    std = x.std(axis=-1, keepdims=True)
    return (x - mean) / (std + epsilon)


def relu(x):
    return np.maximum(0, x)


class ArticleTransformer:
    """config: `rtfast.Config.article()`; weights: the model's, by name."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights
        self.heads = {name: np.split(values, config.n_heads, axis=1) for name, values in weights.items()
                      if name.endswith(("query.weight", "key.weight", "value.weight"))}

    def multi_head(self, x, memory, name, masked=False):
        outputs = []
        for head in range(self.config.n_heads):
            w = [self.heads[f"{name}.{part}.weight"][head] for part in ("query", "key", "value")]
            outputs.append(masked_attention(x, *w) if masked else attention(x, memory, *w))
        return np.concatenate(outputs, axis=1) @ self.weights[f"{name}.output.weight"]

    def feed_forward(self, x, name):
        w = self.weights
        hidden = relu(x @ w[f"{name}.hidden.weight"] + w[f"{name}.hidden.bias"])
        return hidden @ w[f"{name}.output.weight"] + w[f"{name}.output.bias"]

    def embed(self, ids, positions):
        return self.weights["embedding.weight"][ids] + positions[:len(ids)]

    def encode(self, ids, positions):
        x = self.embed(ids, positions)
        for i in range(self.config.n_encoder_layers):
            name = f"encoder.layers.{i}"
            x = layer_norm(x + self.multi_head(x, x, f"{name}.self_attention"))
            x = layer_norm(x + self.feed_forward(x, f"{name}.feed_forward"))
        return x

    def decode(self, ids, states, positions):
        x = self.embed(ids, positions)
        for i in range(self.config.n_decoder_layers):
            name = f"decoder.layers.{i}"
            x = layer_norm(x + self.multi_head(x, x, f"{name}.self_attention", masked=True))
            x = layer_norm(x + self.multi_head(x, states, f"{name}.cross_attention"))
            x = layer_norm(x + self.feed_forward(x, f"{name}.feed_forward"))
        return softmax(x @ self.weights["output.weight"] + self.weights["output.bias"])

    def generate(self, ids, positions, steps):
        """`steps` words, greedily, the decoder reading all words so far each time."""
        states = self.encode(ids, positions)
        words = [self.config.sos_id]
        for _ in range(steps):
            words.append(int(self.decode(words, states, positions)[-1].argmax()))
        return words[1:]
