"""Train the model that rtfast ships, from sentences that grammar.py draws as they are needed.

    python train.py --out ../../rtfast/models/en_es

A development tool: needs PyTorch and some three minutes on two cores; the same machine gives the same weights again.
"""

import argparse
import math
import os
import random
import time

import grammar
import numpy as np
import torch
from torch.nn import functional

import rtfast
from rtfast import safetensors_file
from rtfast.weights import weight_shapes

SPECIAL = ["PAD", "SOS", "EOS"]
PAD, SOS, EOS = range(3)


class Model(torch.nn.Module):
    """rtfast's Transformer of a config in PyTorch, its parameters by rtfast's names."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.values = torch.nn.ParameterDict()
        for name, shape in weight_shapes(config).items():
            value = torch.zeros(shape)
            if name.endswith("gamma"):
                value += 1
            elif name == "embedding.weight":
                torch.nn.init.normal_(value, std=config.d_model ** -0.5)
            elif name.endswith(".weight"):
                torch.nn.init.xavier_uniform_(value)
            self.values[name.replace(".", "/")] = torch.nn.Parameter(value)
        self.register_buffer("places", torch.tensor(
            rtfast.kernels.positional_encoding(config.max_length, config.d_model)).float())

    def __getitem__(self, name):
        return self.values[name.replace(".", "/")]

    def weights(self):
        return {name.replace("/", "."): value.detach().numpy() for name, value in self.values.items()}

    def forward(self, source, target):
        """Logits (B, T, words)."""
        padding = (source != PAD)[:, None, None, :]
        states = self.embed(source)
        for i in range(self.config.n_encoder_layers):
            name = f"encoder.layers.{i}"
            states = self.norm(states + self.attend(states, states, f"{name}.self_attention", padding),
                               f"{name}.self_attention")
            states = self.norm(states + self.feed_forward(states, name), f"{name}.feed_forward")
        x = self.embed(target)
        for i in range(self.config.n_decoder_layers):
            name = f"decoder.layers.{i}"
            x = self.norm(x + self.attend(x, x, f"{name}.self_attention", None), f"{name}.self_attention")
            x = self.norm(x + self.attend(x, states, f"{name}.cross_attention", padding), f"{name}.cross_attention")
            x = self.norm(x + self.feed_forward(x, name), f"{name}.feed_forward")
        return x @ self["embedding.weight"].T

    def embed(self, ids):
        return self["embedding.weight"][ids] * self.config.embedding_scale + self.places[:ids.shape[1]]

    def attend(self, x, memory, name, padding):
        def heads(y, part):
            return (y @ self[f"{name}.{part}.weight"]).unflatten(-1, (self.config.n_heads, -1)).transpose(1, 2)

        out = functional.scaled_dot_product_attention(
            heads(x, "query"), heads(memory, "key"), heads(memory, "value"), padding, is_causal=padding is None)
        return out.transpose(1, 2).flatten(2) @ self[f"{name}.output.weight"]

    def feed_forward(self, x, name):
        name = f"{name}.feed_forward"
        hidden = functional.relu(x @ self[f"{name}.hidden.weight"] + self[f"{name}.hidden.bias"])
        return hidden @ self[f"{name}.output.weight"] + self[f"{name}.output.bias"]

    def norm(self, x, name):
        return functional.layer_norm(x, x.shape[-1:], self[f"{name}.norm.gamma"], self[f"{name}.norm.beta"],
                                     self.config.layer_norm_eps)


def batches(draw, tokenizer, size):
    """Endless batches (source, target) of ids, of sentences of about one length."""
    while True:
        pool = []
        while len(pool) < 8 * size:
            english, spanish = grammar.pair(draw)
            if not grammar.is_held_out(english):
                pool.append((tokenizer.encode(english), [SOS, *tokenizer.encode(spanish), EOS]))
        pool.sort(key=lambda ids: (len(ids[0]), len(ids[1])))
        parts = [pool[i:i + size] for i in range(0, len(pool), size)]
        draw.shuffle(parts)
        for part in parts:
            yield tuple(torch.nn.utils.rnn.pad_sequence([torch.tensor(pair[i]) for pair in part], True, PAD)
                        for i in (0, 1))


def train(config, tokenizer, arguments):
    torch.manual_seed(arguments.seed)
    model = Model(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98))
    warm, most = 400, arguments.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: arguments.rate * min(
        (step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * min(1, step / most)) + 1e-3))
    start, total = time.time(), 0.0
    stream = batches(random.Random(arguments.seed), tokenizer, arguments.batch)
    for step in range(1, most + 1):
        source, target = next(stream)
        logits = model(source, target[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD,
                                        label_smoothing=arguments.smoothing)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f"step {step}: loss {total / 100:.4f}, {time.time() - start:.0f} s", flush=True)
            total = 0.0
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=192, help="sentences")
    parser.add_argument("--rate", type=float, default=3e-3, help="the largest learning rate")
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = rtfast.WordTokenizer([*SPECIAL, *grammar.vocabulary()])
    config = rtfast.Config(
        len(tokenizer), d_model=96, n_heads=4, d_ff=224, n_encoder_layers=2, n_decoder_layers=2, max_length=64,
        embedding_scale=96 ** 0.5, tie_embeddings=True, output_bias=False, sos_id=SOS, eos_id=EOS, pad_id=PAD)
    model = train(config, tokenizer, arguments)
    rtfast.Transformer(config, model.weights(), tokenizer).save(arguments.out)
    halve(arguments.out)


def halve(folder):
    """Round the weights to float16: half the file, no other translation (docs/shipped_model.md has the count)."""
    path = os.path.join(folder, "model.safetensors")
    weights = {name: array.astype(np.float16) for name, array in safetensors_file.read(path).items()}
    with open(path, "wb") as file:
        safetensors_file.write(file, weights)


if __name__ == "__main__":
    main()
