"""How fast the engine is here and now, beside the same arithmetic in plain NumPy.

Each row runs both by turns on the same inputs, after comparing their results; times are medians of one call.
NumPy multiplies with its BLAS, on as many threads as the engine, and works in place where it can.
"of roof": our share of what this machine could do, the multiply-adds at its measured peak or one read of every
operand and result (at the rate of an array of that size), whichever takes longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from importlib import util
from statistics import median, quantiles
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import rtfast
from rtfast import article, bench_compare, info, kernels, roofline
from rtfast.cli import UserError, blaming_the_user, whole_number
from rtfast.paths import write_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rtfast.typing import Array

EXAMPLES = """\
examples:
  rtfast bench --quick
  rtfast bench --threads 1 --json results.json
  rtfast bench --only attention
  rtfast bench --compare results.json"""

#: They hold OpenBLAS back: one picks its kernels, one its blocks. NumPy is to be at its best.
_HANDICAPS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_WORDS = 8
#: Random weights that write 8 words without an early EOS.
_SEED = 23


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=whole_number(1, 128), metavar="N",
                        help="of the engine and of NumPy alike (default: as rtfast info says)")
    parser.add_argument("--quick", action="store_true", help="fewer rows, shorter runs: five seconds, not twenty")
    parser.add_argument("--only", metavar="TEXT", help="only the rows whose name has this text in it")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--compare", metavar="FILE", help="show each row beside those that --json wrote there earlier")


def run(arguments: argparse.Namespace) -> int | None:
    """Measure, and print a row as soon as it is known."""
    threads = arguments.threads or rtfast.get_num_threads()
    offered = cases(arguments.quick)
    chosen = [(name, make) for name, make in offered if (arguments.only or "") in name]
    if not chosen:
        raise UserError(f"--only {arguments.only}: no row has that in its name; they are "
                        f"{', '.join(name for name, _ in offered)}")
    earlier = None if arguments.compare is None else bench_compare.read(arguments.compare)
    if arguments.json is not None:
        there = os.path.exists(arguments.json)
        with blaming_the_user("--json"), open(arguments.json, "a"):
            pass  # better to know now than after the measuring
        if not there:
            os.remove(os.path.realpath(arguments.json))
    if must_restart(threads):
        return restart(arguments, threads)
    rtfast.set_num_threads(threads)
    with limited_blas(threads) as blas_threads:
        report = {"machine": info.facts(), "threads": threads, "numpy_threads": blas_threads}
        report |= table(chosen, report, 0.2 if arguments.quick else 1.0)
    if earlier is not None:
        print("\n".join(bench_compare.lines(earlier, report, arguments.compare, duration)))
    if arguments.json is not None:
        with blaming_the_user("--json"):
            write_file(arguments.json, f"{json.dumps(report, indent=2)}\n".encode())
    return None


def table(chosen: Sequence[tuple[str, Callable[[], SimpleNamespace]]], report: dict[str, Any],
          budget: float) -> dict[str, Any]:
    """Measure and print the chosen rows: what they add to the report."""
    threads, rows = report["threads"], []
    with roofline.measured(threads) or contextlib.nullcontext() as roof:
        print("\n".join(heading(report["machine"], threads, report["numpy_threads"], roof)), flush=True)
        for name, make in chosen:
            rows.append(measure(name, make(), budget, threads, roof))
            print(line(rows[-1]), flush=True)
    print("\n".join(footing(rows)))
    rates = roof and {"flops_per_second": roof.flops, "bytes_per_second": roof.bytes}
    return {"roofline": rates, "rows": rows}


# A fair peer -------------------------------------------------------------------------------------

def must_restart(threads: int) -> bool:
    """Whether NumPy was loaded with settings that cannot be changed any more."""
    if any(name in os.environ for name in _HANDICAPS):
        return True
    return (util.find_spec("threadpoolctl") is None
            and any(os.environ.get(name) != str(threads) for name in _THREADS))


def restart(arguments: argparse.Namespace, threads: int) -> int:
    """The same command in a process whose NumPy finds the right environment; its exit status."""
    environment = {name: value for name, value in os.environ.items() if name not in _HANDICAPS}
    environment |= dict.fromkeys(_THREADS, str(threads))
    command = [sys.executable, "-m", "rtfast", "bench", f"--threads={threads}"]
    command += ["--quick"] * arguments.quick
    command += [f"--only={arguments.only}"] if arguments.only else []
    command += [f"--json={arguments.json}"] if arguments.json else []
    command += [f"--compare={arguments.compare}"] if arguments.compare else []
    sys.stdout.flush()
    return subprocess.call(command, env=environment)


@contextlib.contextmanager
def limited_blas(threads: int) -> Iterator[int | str]:
    """NumPy's BLAS on so many threads during a `with`, which gets the number or why it is not certain."""
    if util.find_spec("threadpoolctl") is None:
        yield f"{threads} by environment variables, unchecked without threadpoolctl"
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        pools = threadpoolctl.threadpool_info()
        found = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
        yield found[0] if found else "not to be fixed, threadpoolctl does not know this BLAS"


def heading(machine: dict[str, Any], threads: int, blas_threads: int | str,
            roof: roofline.Roofline | None = None) -> list[str]:
    """The lines above the rows; roof: a `Roofline`, where the backend has one."""
    numpy = f"NumPy   {machine['numpy']['version']} with {machine['numpy']['blas']}"
    uncertain = [] if blas_threads == threads else [f"        threads: {blas_threads}"]
    limits = [] if roof is None else [
        f"roof    {roof.flops / 1e9:.0f} GFLOP/s of multiply-adds in float32, reads {roof.bytes / 1e9:.1f} GB/s"]
    share = "of roof" if roof else ""
    return [
        f"rtfast  {machine['rtfast']['version']}, {machine['backend']['in_use']} backend, "
        f"{threads} thread{'s' * (threads > 1)}",
        numpy, *uncertain,
        f"CPU     {machine['cpu']['model']}", *limits, "",
        f"{'':34}{'time of one call':^20}{'':17}{'GFLOP/s':>13}",
        f"{'':34}{'rtfast':>10}{'NumPy':>10}{'ratio':>9}{share:>8}{'rtfast':>9}{'NumPy':>8}"]


def line(row: dict[str, Any]) -> str:
    """A row of the table. ratio: how many times as long NumPy takes."""
    text = (f"{row['name']:34}{duration(row['rtfast_seconds']):>10}{duration(row['numpy_seconds']):>10}"
            f"{row['ratio']:>8.2f}{' ' if row['steady'] else '~'}")
    text += f"{row['of_roofline']:>8.2f}" if row["of_roofline"] else f"{'':8}"
    if row["flops"]:
        text += f"{row['rtfast_gflops']:>9.1f}{row['numpy_gflops']:>8.1f}"
    return text.rstrip()


def footing(rows: list[dict[str, Any]]) -> list[str]:
    """The lines below the rows."""
    text = ["", "ratio: how many times as long NumPy takes."]
    if any(row["of_roofline"] for row in rows):
        text.append("of roof: of the speed that the multiply-adds at peak, or one plain read of all data, would have.")
    if not all(row["steady"] for row in rows):
        text.append("~ the times of one side varied by half and more: something else was running.")
    return text


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.1f} us"


# Measuring ---------------------------------------------------------------------------------------

def measure(name: str, case: SimpleNamespace, budget: float, threads: int,
            roof: roofline.Roofline | None = None) -> dict[str, Any]:
    """Check that both sides agree, then time them by turns for about `budget` seconds; roof: a `Roofline`."""
    error = disagreement(case.ours(), case.peer())
    if error > case.tolerance:
        raise RuntimeError(f"{name}: the results differ by {error:.1e} of the largest number")
    sides = [(call, loops_for(call, budget / 40)) for call in (case.ours, case.peer)]
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget
    while len(times[0]) < 3 or time.perf_counter() < end:
        for (call, loops), samples in zip(sides, times, strict=True):
            if threads > 1 and case.uses_blas and call is case.ours:
                wait_for_idle_threads()
            samples.append(sample(call, loops))
    ours, peer = map(median, times)
    least = roof.seconds(case.flops, case.bytes) if roof and case.bytes else None
    return {"name": name, "rtfast_seconds": ours, "numpy_seconds": peer, "ratio": peer / ours,
            "steady": all(map(steady, times)), "samples": len(times[0]),
            "largest_difference": error, "flops": case.flops, "bytes": case.bytes,
            "roofline_seconds": least, "of_roofline": least and least / ours,
            "rtfast_gflops": case.flops and case.flops / ours / 1e9,
            "numpy_gflops": case.flops and case.flops / peer / 1e9}


def wait_for_idle_threads() -> None:
    """OpenBLAS's threads look out for more work for some 0.1 s after a call, on the cores that we need next."""
    for _ in range(40):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def steady(times: list[float]) -> bool:
    """Whether the middle half of the times lies close together."""
    low, _, high = quantiles(times, n=4, method="inclusive")
    return high <= 1.5 * low


def disagreement(ours: Any, peer: Any) -> float:
    """The largest difference, relative to the largest number."""
    ours, peer = np.asarray(ours, np.float64), np.asarray(peer, np.float64)
    if ours.shape != peer.shape:
        return np.inf
    difference = np.abs(ours - peer).max() / max(np.abs(peer).max(), 1e-300)
    return float(difference) if difference == difference else np.inf


def loops_for(call: Callable[[], Any], seconds: float) -> int:
    """Calls that take about so long, one at least."""
    call()
    return max(1, min(10_000, round(seconds / max(sample(call, 1), 1e-7))))


def sample(call: Callable[[], Any], loops: int) -> float:
    """Seconds of one call, averaged over `loops`, once it runs as it does in a loop.

    Warming the caches takes a call. Threads that have slept take 10 ms: they wake up on the core of the thread
    that woke them, and the system then moves them apart.
    """
    warm = time.perf_counter() + 0.015
    call()
    while time.perf_counter() < warm:
        call()
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def case(ours: Callable[[], Any], peer: Callable[[], Any], flops: float | None = None, tolerance: float = 1e-5,
         uses_blas: bool = True, arrays: Sequence[Array] = ()) -> SimpleNamespace:
    """Two functions without arguments that return the same numbers; arrays: what ours reads and writes."""
    n_bytes = sum(array.nbytes for array in arrays)
    return SimpleNamespace(ours=ours, peer=peer, flops=flops, bytes=n_bytes, tolerance=tolerance,
                           uses_blas=uses_blas)


# What is measured --------------------------------------------------------------------------------

def cases(quick: bool = False) -> list[tuple[str, Callable[[], SimpleNamespace]]]:
    """(name, function that makes the case) of each row: made one by one, they take some memory."""
    rows: list[tuple[str, Callable[[], SimpleNamespace]]] = []
    for d_out in (512,) if quick else (512, 2048):
        for m in (1, 16, 128) if quick else (1, 16, 128, 1024):
            rows.append((f"linear {m} x 512 x {d_out}", partial(linear_case, m, 512, d_out)))
    rows += [("softmax 1024 x 512", partial(softmax_case, 1024, 512)),
             ("layer_norm 1024 x 512", partial(layer_norm_case, 1024, 512))]
    for causal in (False, True):
        name = "attention 8 x 128 x 64" + causal * ", causal"
        rows.append((name, partial(attention_case, 8, 128, 64, causal)))
    for length in (16, 128):
        rows.append((f"encoder, base model, {length} tokens", partial(encoder_case, length)))
    rows.append((f"article's model, {_WORDS} words", generation_case))
    return rows


def normal(*shape: int) -> Array:
    """Random float32 numbers, the same every time."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def linear_case(m: int, d_in: int, d_out: int) -> SimpleNamespace:
    x, weight, bias = normal(m, d_in), normal(d_in, d_out), normal(d_out)
    packed, ours, peer = kernels.pack(weight), np.empty((m, d_out), "f4"), np.empty((m, d_out), "f4")

    def numpy_linear() -> Array:
        np.matmul(x, weight, out=peer)
        return np.add(peer, bias, out=peer)

    return case(lambda: kernels.linear(x, packed, bias, out=ours), numpy_linear, 2 * m * d_in * d_out,
                arrays=(x, weight, bias, ours))


def softmax_case(rows: int, width: int) -> SimpleNamespace:
    x, ours, peer = normal(rows, width), np.empty((rows, width), "f4"), np.empty((rows, width), "f4")

    def numpy_softmax() -> Array:
        np.subtract(x, x.max(axis=-1, keepdims=True), out=peer)
        return softmax_from_zero(peer)

    return case(lambda: kernels.softmax(x, out=ours), numpy_softmax, uses_blas=False, arrays=(x, ours))


def layer_norm_case(rows: int, width: int) -> SimpleNamespace:
    x, gamma, beta = normal(rows, width), normal(width), normal(width + 1)[1:]
    ours = np.empty((rows, width), "f4")
    return case(lambda: kernels.layer_norm(x, gamma, beta, out=ours),
                lambda: layer_norm(x, gamma, beta, 1e-5, False), uses_blas=False, arrays=(x, gamma, beta, ours))


def attention_case(heads: int, length: int, width: int, causal: bool) -> SimpleNamespace:
    q, k, v = (normal(heads, length, width) * np.float32(1 + i / 8) for i in range(3))
    future = np.triu(np.full((length, length), -np.inf, "f4"), 1) if causal else None
    share = (length + 1) / (2 * length) if causal else 1  # of the scores that count
    return case(lambda: kernels.attention(q, k, v, causal=causal),
                lambda: attend(q, k, v, np.float32(width ** -0.5), future),
                4 * heads * length * length * width * share, arrays=(q, k, v, q))


def encoder_case(length: int) -> SimpleNamespace:
    config = rtfast.Config.base(1000, n_decoder_layers=0)  # no need to make the half that is not run
    model = rtfast.Transformer.random(config)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, length)
    peer = NumpyTransformer(config, model.weights)
    used = [w for name, w in model.weights.items() if name.startswith("encoder.")]
    matrices = sum(w.size for w in used if w.ndim == 2)
    flops = 2 * length * matrices + 4 * config.n_encoder_layers * length * length * config.d_model
    return case(lambda: model.encode(ids), lambda: peer.encode(ids), flops, tolerance=1e-4, arrays=used)


def generation_case() -> SimpleNamespace:
    model = rtfast.Transformer.random(rtfast.Config.article(), _SEED, article.VOCABULARY)
    ids = model.tokenizer.encode(" ".join(article.TOKENS))
    peer = NumpyTransformer(model.config, model.weights)
    return case(lambda: model.generate(ids, _WORDS), lambda: peer.generate(ids, _WORDS), tolerance=0,
                uses_blas=False)  # these matrices are too small for its threads


# The peer: a Transformer in NumPy ----------------------------------------------------------------

def softmax_from_zero(x: Array) -> Array:
    """Softmax in place, of rows whose maximum is 0."""
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def attend(q: Array, k: Array, v: Array, scale: Any, future: Array | None = None) -> Array:
    """softmax(Q K^T * scale + future) V, heads first."""
    scores = q @ k.transpose(0, 2, 1)
    scores *= scale
    if future is not None:
        scores += future
    scores -= scores.max(axis=-1, keepdims=True)
    return softmax_from_zero(scores) @ v


def layer_norm(x: Array, gamma: Array, beta: Array, eps: float, article_form: bool) -> Array:
    """In one pass over a new array."""
    y: Array = x - x.mean(axis=-1, keepdims=True)
    variance = np.einsum("ij,ij->i", y, y)[:, None] / x.shape[-1]
    y /= np.sqrt(variance) + eps if article_form else np.sqrt(variance + x.dtype.type(eps))
    y *= gamma
    y += beta
    return y


class NumpyTransformer:
    """Encoder and greedy generation as one writes them in NumPy: fused projections, cached keys, values."""

    def __init__(self, config: rtfast.Config, weights: dict[str, Array]) -> None:
        self.config, self.weights = config, dict(weights)
        for name in [name for name in weights if name.endswith("attention.query.weight")]:
            start = name.removesuffix("query.weight")
            parts = [weights[f"{start}{part}.weight"] for part in ("query", "key", "value")]
            self.weights[f"{start}qkv"] = np.concatenate(parts, axis=1)
            self.weights[f"{start}kv"] = np.concatenate(parts[1:], axis=1)
        self.positions = kernels.positional_encoding(
            config.max_length, config.d_model, config.article_positional_encoding, config.dtype)
        self.scale = self.positions.dtype.type(config.d_key ** -0.5)

    def encode(self, ids: Any) -> Array:
        """ids (S,) -> states (S, d_model)."""
        x = self.weights["embedding.weight"][ids] + self.positions[:len(ids)]
        for i in range(self.config.n_encoder_layers):
            name = f"encoder.layers.{i}.self_attention"
            q, k, v = self.heads(x @ self.weights[f"{name}.qkv"])
            x = self.feed_forward(self.close(attend(q, k, v, self.scale), x, name), f"encoder.layers.{i}")
        return x

    def generate(self, ids: Any, limit: int) -> list[int]:
        """The likeliest word again and again, until EOS or `limit` words."""
        config: Any = self.config
        states = self.encode(ids)
        words: list[int] = []
        names = [f"decoder.layers.{i}.cross_attention.kv" for i in range(config.n_decoder_layers)]
        memory = [self.heads(states @ self.weights[name], with_query=False) for name in names]
        caches = [[np.empty((config.n_heads, limit, width), config.dtype)
                   for width in (config.d_key, config.d_value)] for _ in memory]
        while len(words) < limit and (not words or words[-1] != config.eos_id):
            x = self.step(words[-1] if words else config.sos_id, len(words), caches, memory)
            logits = x @ self.weights["output.weight"] + self.weights["output.bias"]
            words.append(int(logits.argmax()))
        return words

    def step(self, word: int, position: int, caches: list[Any], memory: list[Any]) -> Array:
        """One more target word through the decoder: (1, d_model)."""
        x = (self.weights["embedding.weight"][word] + self.positions[position])[None]
        for i, ((keys, values), (k, v)) in enumerate(zip(caches, memory, strict=True)):
            name = f"decoder.layers.{i}.self_attention"
            q, keys[:, position:position + 1], values[:, position:position + 1] = self.heads(
                x @ self.weights[f"{name}.qkv"])
            seen = attend(q, keys[:, :position + 1], values[:, :position + 1], self.scale)
            x = self.close(seen, x, name)
            name = f"decoder.layers.{i}.cross_attention"
            (q,) = self.split(x @ self.weights[f"{name}.query.weight"], (self.config.d_key,))
            x = self.close(attend(q, k, v, self.scale), x, name)
            x = self.feed_forward(x, f"decoder.layers.{i}")
        return x

    def heads(self, projected: Array, with_query: bool = True) -> list[Array]:
        """Queries (unless there are none), keys and values (heads, rows, width) of their common product."""
        widths = (self.config.d_key, self.config.d_key, self.config.d_value)
        return self.split(projected, widths if with_query else widths[1:])

    def split(self, projected: Array, widths: Sequence[int]) -> list[Array]:
        parts, start = [], 0
        for width in widths:
            end = start + self.config.n_heads * width
            part = projected[:, start:end].reshape(len(projected), self.config.n_heads, width)
            parts.append(part.transpose(1, 0, 2))
            start = end
        return parts

    def close(self, heads: Array, x: Array, name: str) -> Array:
        """The end of an attention: heads side by side, output projection, residual, norm."""
        y = heads.transpose(1, 0, 2).reshape(len(x), -1) @ self.weights[f"{name}.output.weight"]
        y += x
        return self.norm(y, name)

    def feed_forward(self, x: Array, layer: str) -> Array:
        name = f"{layer}.feed_forward"
        hidden = x @ self.weights[f"{name}.hidden.weight"]
        hidden += self.weights[f"{name}.hidden.bias"]
        np.maximum(hidden, 0, out=hidden)
        y = hidden @ self.weights[f"{name}.output.weight"]
        y += self.weights[f"{name}.output.bias"]
        y += x
        return self.norm(y, name)

    def norm(self, x: Array, name: str) -> Array:
        config = self.config
        return layer_norm(x, self.weights[f"{name}.norm.gamma"], self.weights[f"{name}.norm.beta"],
                          config.layer_norm_eps, config.article_layer_norm)
