"""A user's program for test_typing.py: mypy --strict must accept it and know these types, and it must run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import rtfast
from rtfast.typing import Packed

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    Value = TypeVar("Value")

    def assert_type(value: Value, _: object) -> Value:
        """What typing has from Python 3.11 on."""
        return value

Floats = npt.NDArray[np.floating[Any]]


class Letters:
    """A tokenizer of one's own: `Transformer` takes whatever has these."""

    def encode(self, text: str) -> list[int]:
        """Ids of letters."""
        return [ord(letter) % 10 for letter in text]

    encode_target = encode

    def decode(self, ids: object) -> str:
        """Any text will do."""
        return str(ids)


def translation(model: rtfast.Transformer) -> str:
    """Text and ids in, text and ids out."""
    assert_type(model.translate(["the red house", "we dance"]), list[str])
    assert_type(model.translate("the red house", return_dict_in_generate=True), rtfast.Hypothesis)
    assert_type(model.generate([4, 8, 15]), list[int])
    assert_type(model.generate([[4, 8], [15]]), list[list[int]])
    assert_type(model.stream("the red house"), Iterator[str])
    assert_type(model.encode([4, 8, 15]), Floats)
    assert_type(model.logits([4, 8, 15], [0, 4]), Floats)
    options: rtfast.GenerationOptions = model.generation.merged(num_beams=2)
    assert_type(options.num_beams, int)
    assert_type(model.config.d_model, int)
    return assert_type(model.translate("the red house", num_beams=4), str)


def inside(model: rtfast.Transformer) -> rtfast.Trace:
    """A trace, its parts, and the run with a head silenced."""
    trace = assert_type(model.trace("the red house", include=["decoder.*", "logits"]), rtfast.Trace)
    for name, array in trace.items():
        assert_type(name, str)
        assert_type(array, Floats)
    assert_type(trace.item("logits").axes, tuple[str, ...])
    assert_type(trace.step(0), dict[str, Floats])
    assert_type(trace.alignment(layers=0, heads=[0, 1]), Floats)
    return model.run_with(trace, {
        "decoder.layers.*.cross_attention.weights": lambda weights: 0 * weights, "logits": np.zeros(1)})


def arithmetic() -> Floats:
    """The kernels, on lists and arrays."""
    x = np.ones((2, 3), np.float32)
    assert_type(rtfast.kernels.softmax([1.0, 2.0]), Floats)
    packed: Packed = rtfast.kernels.pack(np.ones((3, 5), np.float32))
    assert_type(packed.shape, tuple[int, int])
    _, weights = rtfast.kernels.attention(x, x, x, causal=True, return_weights=True)
    assert_type(weights, Floats)
    return assert_type(rtfast.kernels.linear(x, packed, activation="relu"), Floats)


def main() -> None:
    """All of it, with the model that comes along and with one of one's own."""
    model = rtfast.load()
    assert translation(model)
    assert inside(model)["logits"].sum() == 0
    assert arithmetic().shape == (2, 5)
    own = rtfast.Transformer.random(rtfast.Config.article())
    assert rtfast.Transformer(own.config, own.weights, Letters()).translate("hi", max_new_tokens=2)


if __name__ == "__main__":
    main()
