"""The Transformer of "Attention Is All You Need", plainly: what the engine must compute, section by section.

float64 NumPy, one sentence at a time, one head at a time, one query at a time, everything computed anew for
every word: slow, and easy to compare with the paper. It shares no code with rtfast but the names of the
weights and the fields of the config.
"""

import math

import numpy as np


class PlainTransformer:
    """config: an rtfast.Config; weights: all of them, by rtfast's names."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: np.asarray(values, np.float64) for name, values in weights.items()}

    def encode(self, ids):
        """Section 3.1, the left half of figure 1: ids (S,) -> (S, d_model)."""
        x = self.embed(ids)
        for i in range(self.config.n_encoder_layers):
            name = f"encoder.layers.{i}"
            x = self.sublayer(x, self.multi_head(x, x, f"{name}.self_attention"), f"{name}.self_attention")
            x = self.sublayer(x, self.feed_forward(x, f"{name}.feed_forward"), f"{name}.feed_forward")
        return x

    def decode(self, states, ids):
        """Section 3.1, the right half: encoder states (S, d_model), ids (T,) -> logits (T, vocab_size)."""
        x = self.embed(ids)
        for i in range(self.config.n_decoder_layers):
            name = f"decoder.layers.{i}"
            attended = self.multi_head(x, x, f"{name}.self_attention", causal=True)
            x = self.sublayer(x, attended, f"{name}.self_attention")
            attended = self.multi_head(x, states, f"{name}.cross_attention")
            x = self.sublayer(x, attended, f"{name}.cross_attention")
            x = self.sublayer(x, self.feed_forward(x, f"{name}.feed_forward"), f"{name}.feed_forward")
        if self.config.tie_embeddings:
            logits = x @ self.weights["embedding.weight"].T
        else:
            logits = x @ self.weights["output.weight"]
        return logits + self.weights["output.bias"] if self.config.output_bias else logits

    def logits(self, source, target):
        """ids (S,), (T,) -> (T, vocab_size)."""
        return self.decode(self.encode(source), target)

    def generate(self, source, limit):
        """The likeliest word again and again: the ids, with the EOS that ended them."""
        states, generated = self.encode(source), []
        while len(generated) < limit and (not generated or generated[-1] != self.config.eos_id):
            logits = self.decode(states, [self.config.sos_id, *generated])
            generated.append(int(np.argmax(logits[-1])))
        return generated

    # Sections 3.4 and 3.5

    def embed(self, ids):
        rows = []
        for position, word in enumerate(ids):
            vector = self.weights["embedding.weight"][word] * self.config.embedding_scale
            rows.append(vector + self.position(position))
        return np.array(rows)

    def position(self, position):
        d_model = self.config.d_model
        row = []
        for column in range(d_model):
            index = column if self.config.article_positional_encoding else column // 2
            angle = position / 10000 ** (2 * index / d_model)
            row.append(math.cos(angle) if column % 2 else math.sin(angle))
        return np.array(row)

    # Section 3.2

    def multi_head(self, x, memory, name, causal=False):
        c, heads = self.config, []
        for h in range(c.n_heads):
            q = self.project(x, f"{name}.query", h * c.d_key, (h + 1) * c.d_key)
            k = self.project(memory, f"{name}.key", h * c.d_key, (h + 1) * c.d_key)
            v = self.project(memory, f"{name}.value", h * c.d_value, (h + 1) * c.d_value)
            heads.append(self.attention(q, k, v, causal))
        return self.project(np.concatenate(heads, axis=1), f"{name}.output", 0, c.d_model)

    def project(self, x, name, start, end):
        y = x @ self.weights[f"{name}.weight"][:, start:end]
        return y + self.weights[f"{name}.bias"][start:end] if self.config.attention_bias else y

    def attention(self, q, k, v, causal):
        scale = self.config.attention_scale
        if scale is None:
            scale = 1 / math.sqrt(self.config.d_key)
        rows = []
        for t, query in enumerate(q):
            visible = t + 1 if causal else len(k)
            weights = self.softmax(k[:visible] @ query * scale)
            rows.append(weights @ v[:visible])
        return np.array(rows)

    def softmax(self, x):
        powers = np.exp(x if self.config.article_softmax else x - x.max())
        return powers / powers.sum()

    # Sections 3.3 and 3.1

    def feed_forward(self, x, name):
        hidden = self.activation(self.linear(x, f"{name}.hidden"))
        return self.linear(hidden, f"{name}.output")

    def linear(self, x, name):
        y = x @ self.weights[f"{name}.weight"]
        return y + self.weights[f"{name}.bias"] if self.config.feed_forward_bias else y

    def activation(self, x):
        if self.config.activation is None:
            return x
        if self.config.activation == "relu":
            return np.where(x > 0, x, 0)
        if self.config.activation == "gelu":
            return x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2))
        if self.config.activation == "gelu_tanh":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
        return x / (1 + np.exp(-x))  # silu

    def sublayer(self, x, y, name):
        """LayerNorm(x + y), or what the config leaves of it."""
        if self.config.residual:
            y = x + y
        if not self.config.norm:
            return y
        gamma, beta = self.weights[f"{name}.norm.gamma"], self.weights[f"{name}.norm.beta"]
        return np.array([self.layer_norm(row) * gamma + beta for row in y])

    def layer_norm(self, row):
        if self.config.article_layer_norm:
            return (row - np.mean(row)) / (np.std(row) + self.config.layer_norm_eps)
        return (row - np.mean(row)) / math.sqrt(np.var(row) + self.config.layer_norm_eps)
