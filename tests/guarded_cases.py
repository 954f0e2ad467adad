"""Calls whose every operand and result lies against an unreadable page, for test_guard_pages.py to run.

Run in a process of its own: it prints each case before it calls it, so that the last one printed is the one that
touched what it may not.
"""

import itertools
import random
import sys
from typing import NamedTuple

import numpy as np
from cases import DTYPES, LENGTHS, assert_same_bits, normal, product_sizes
from guard_pages import SIDES, guarded
from models import random_ids, random_values, small_config, threads

import rtfast
from rtfast import backends, kernels
from rtfast.activations import ACTIVATIONS


class Call(NamedTuple):
    """function(*inputs, *outputs); outputs have the contents that they start with."""

    name: str
    function: object
    inputs: list
    outputs: list


def empty(*shape, dtype):
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -1, dtype)


def into(kernel, *operands, shape, **options):
    """A call of a public kernel with out=."""
    name = f"{kernel.__name__} {[operand.shape for operand in operands]} {options or ''}"
    return Call(name, lambda *arrays: kernel(*arrays[:-1], out=arrays[-1], **options), list(operands),
                [empty(*shape, dtype=operands[0].dtype)])


def in_place(kernel, x, *operands, **options):
    return Call(f"{kernel.__name__} in place {x.shape} {options or ''}",
                lambda *arrays: kernel(arrays[-1], *arrays[:-1], out=arrays[-1], **options), list(operands), [x])


def products(dtype):
    """matmul, linear and pack over the edges of tiles, panels and chunks; some large enough for several threads."""
    activations = itertools.cycle(ACTIVATIONS)
    for m, k, n in [*product_sizes(70), (67, 300, 291), (200, 64, 64), (1, 700, 1031),
                    (10, 7, 512), (11, 258, 513), (35, 3, 520), (3, 261, 517)]:
        a, b, bias = normal((m, k), dtype, 1), normal((k, n), dtype, 2), normal((n,), dtype, 3)
        yield into(kernels.matmul, a, b, shape=(m, n))
        yield into(kernels.matmul, np.stack([a, a + 1]), np.stack([b, b - 1]), shape=(2, m, n))
        activation = next(activations)
        yield into(kernels.linear, a, b, bias, shape=(m, n), activation=activation)
        packed = kernels.pack(b)
        yield Call(f"linear, packed, {a.shape} {b.shape} {activation}",
                   lambda x, bias, out, packed=packed, activation=activation:
                       kernels.linear(x, packed, bias, activation, out=out), [a, bias], [empty(m, n, dtype=dtype)])
        yield Call(f"linear, packed, no bias, {a.shape} {b.shape}",
                   lambda x, out, packed=packed: kernels.linear(x, packed, out=out), [a], [empty(m, n, dtype=dtype)])
        yield Call(f"pack {b.shape}", lambda b, out: np.copyto(out, kernels.pack(b).unpack()), [b],
                   [empty(k, n, dtype=dtype)])
        yield Call(f"pack transposed {b.shape}",
                   lambda b, out: np.copyto(out, backends.active().pack(b, True).unpack()), [b.T.copy()],
                   [empty(k, n, dtype=dtype)])


def rows(dtype):
    """What works row by row, over the edges of vectors and of the 16 lanes of a sum."""
    for number, n in enumerate((*LENGTHS, 70_001)):
        m = (1, 2, 3, 4, 5, 7)[number % 6]
        x, y, vector = normal((m, n), dtype, 1), normal((m, n), dtype, 2), normal((n,), dtype, 3)
        yield into(kernels.softmax, x, shape=(m, n))
        yield in_place(kernels.softmax, x)
        for operands in ([], [vector], [vector, vector + 1]):
            yield into(kernels.layer_norm, x, *operands, shape=(m, n))
            yield into(kernels.add_layer_norm, x, y, *operands, shape=(m, n), article=True)
            yield in_place(kernels.layer_norm, x, *operands)
        for activation in ACTIVATIONS:
            yield into(kernels.activate, x, shape=(m, n), activation=activation)
        for kernel in (kernels.exp, kernels.erf, kernels.tanh):
            yield into(kernel, x, shape=(m, n))
            yield in_place(kernel, x)
        if n:
            yield Call(f"argmax {x.shape}", backend_function("argmax"), [x], [empty(m, dtype=np.int64)])
        for k in {min(k, n) for k in (1, 5, 64)} - {0}:
            for log_softmax in (False, True):
                yield Call(f"top_k {x.shape} {k} {log_softmax}",
                           lambda x, values, ids, k=k, log=log_softmax: backends.active().top_k(x, k, log, values, ids),
                           [x], [empty(m, k, dtype=dtype), empty(m, k, dtype=np.int64)])


def backend_function(name):
    """A function of the backend, which writes into what it is given where the public one makes its result."""
    return lambda *arrays: getattr(backends.active(), name)(*arrays)


def lookups(dtype):
    """embedding, plain as users have it, and with positions as models have it."""
    for n, words, count in itertools.product((1, 3, 4, 7, 8, 9, 16, 17, 33, 65), (1, 5), (0, 1, 6)):
        table, places = normal((words, n), dtype, 1), normal((9, n), dtype, 2)
        ids, positions = np.arange(count) % words, np.arange(count) * 3 % 9
        for kind in (np.int64, np.uint8):
            yield Call(f"embedding {ids.shape} {kind.__name__} {table.shape}",
                       lambda ids, table, out: kernels.embedding(ids, table, out=out), [ids.astype(kind), table],
                       [empty(count, n, dtype=dtype)])
        yield Call(f"embedding with positions {ids.shape} {table.shape}",
                   lambda ids, table, positions, places, out:
                       backends.active().embedding(ids, table, 2.0, positions, places, out),
                   [ids, table, positions, places], [empty(count, n, dtype=dtype)])


def attention(dtype):
    """All forms of attention over the edges of panels of keys, tiles of queries and chunks of sums."""
    shuffle = random.Random(0)
    lengths = (1, 2, 3, 15, 16, 17, 24, 25, 31, 33, 49, 97, 100, 257)
    widths = (1, 2, 3, 7, 8, 9, 16, 17, 32, 33, 64, 65)
    sizes = [(shuffle.choice(lengths), shuffle.choice(lengths), shuffle.choice(widths), shuffle.choice(widths))
             for _ in range(60)]
    for t, s, d_key, d_value in [*sizes, (0, 3, 4, 4), (3, 0, 4, 4), (3, 3, 0, 4), (3, 3, 4, 0), (120, 300, 32, 32)]:
        q, k, v = (normal((2, *shape), dtype, i) for i, shape in enumerate([(t, d_key), (s, d_key), (s, d_value)]))
        mask = (np.random.default_rng(0).random((2, t, s)) < 0.7).view(np.uint8)
        mask[:, -1:] = 0  # a query that may attend nothing
        for form, causal, masked, shown in (("plain", False, False, 0), ("causal", True, False, 0),
                                            ("masked", False, True, 0), ("masked and causal", True, True, 1),
                                            ("weights", False, False, 1), ("traced", True, False, 3)):
            inputs = [q, k, v, mask] if masked else [q, k, v]
            yield Call(f"attention, {form}, T {t}, S {s}, d_key {d_key}, d_value {d_value}",
                       attend(causal, masked, shown), inputs,
                       [empty(2, t, d_value, dtype=dtype)] + [empty(2, t, s, dtype=dtype)] * shown)


def attend(causal, masked, shown):
    def function(q, k, v, *rest):
        mask, rest = (rest[0], rest[1:]) if masked else (None, rest)
        extra = [None] * (3 - shown) + list(rest[1:])
        backends.active().attention(q, k, v, mask, causal, 0.3, rest[0], *extra)
    return function


def models(dtype):
    """Whole models: their weights and ids guarded; the results are copies."""
    config = small_config(dtype=np.dtype(dtype).name)
    values = random_values(config)
    names = list(values)
    for kind, (b, s, t) in itertools.product((np.int64, np.uint8), [(1, 1, 1), (1, 40, 40), (3, 7, 5), (2, 16, 17)]):
        source, target = random_ids(config, (b, s)).astype(kind), random_ids(config, (b, t), 1).astype(kind)

        def run(source, target, *rest):
            weights, outputs = dict(zip(names, rest, strict=False)), rest[len(names):]
            model = rtfast.Transformer(config, weights)
            results = [model.encode(source), model.logits(source, target), model.score(source, target)]
            model.generate(source, 8)
            model.generate(source, 8, num_beams=3)
            model.generate(source, 8, decoder_input_ids=target[0, :4])
            model.trace(source[0], target[0])
            for result, output in zip(results, outputs, strict=True):
                output[...] = result

        yield Call(f"model, ids {kind.__name__}, B {b}, S {s}, T {t}", run, [source, target, *values.values()],
                   [empty(b, s, config.d_model, dtype=dtype), empty(b, t, config.vocab_size, dtype=dtype),
                    empty(b, dtype=dtype)])


GROUPS = {group.__name__: group for group in (products, rows, lookups, attention, models)}


def check(call, dtype, side, backend):
    print(f"{call.name}, {np.dtype(dtype)}, {side}", flush=True)
    expected = [output.copy() for output in call.outputs]
    call.function(*(array.copy() for array in call.inputs), *expected)
    outputs = [guarded(output, side) for output in call.outputs]
    call.function(*(guarded(array, side, writeable=False) for array in call.inputs), *outputs)
    for output, right in zip(outputs, expected, strict=True):
        if backend == "python":  # NumPy promises no equal bits
            np.testing.assert_allclose(output, right, rtol=1e-3, atol=1e-3)
        else:
            assert_same_bits(output, right, call.name)


def main(backend, group):
    with backends.using(backend):
        for dtype, side in itertools.product(DTYPES, SIDES):
            for i, call in enumerate(GROUPS[group](dtype)):
                with threads(1 + i % 2):
                    check(call, dtype, side, backend)
    print("all")


if __name__ == "__main__":
    main(*sys.argv[1:])
