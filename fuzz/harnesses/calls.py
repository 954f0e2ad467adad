"""What users pass on to a model from outside: options of a request, and ids."""

import json

import mutators
import numpy as np

from .base import Harness, tiny_model

_NUMBERS = (-1, -2**31, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -2**63, 10**5000, 7, 6)
_TYPES = ("int64", "int32", "uint8", "uint64", "int8", "float32", "float64", "bool", "object", "complex64",
          "U3", "S2", ">i4", "M8[s]")
_OTHERS = (None, True, 1.0, float("nan"), float("inf"), "hello", "hello world", "", "\ud800", b"ab", {}, {3: 4},
           frozenset((3, 4)), range(3), np.int64(3), np.float32(3), np.array(3), ..., 3j)


class Options(Harness):
    """Any JSON object as the options of `generate`."""

    name = "generation_options"
    allowed = (TypeError, ValueError)

    def __init__(self, folder):
        super().__init__(folder)
        self._model = tiny_model()

    def mutate(self, data, random):
        return mutators.of_json(data, random, ("never", "stopping_criteria", "max_batch_tokens", "truncation",
                                               "decoder_input_ids", "return_dict_in_generate", "output_attentions"))

    def run(self, data):
        try:
            options = json.loads(data.decode())
        except (ValueError, RecursionError):
            return
        if isinstance(options, dict):
            for name in ("num_beams", "num_return_sequences"):  # more are more work: whoever asks knows
                if type(options.get(name)) is int and 1024 < options[name] <= 2**16:
                    options[name] = 1024
            self._model.generate([3, 4], **options)


class Ids(Harness):
    """Nested lists, arrays, numbers and other things where ids belong; the bytes say which and how nested."""

    name = "ids"
    allowed = (TypeError, ValueError)

    def __init__(self, folder):
        super().__init__(folder)
        self._models = tiny_model(), tiny_model(pad_id=0)

    def made(self):
        row, other, limit, array = (2, 3, 0, 3, 0, 4, 0, 5), (2, 2, 0, 1, 0, 3), (0, 3), (5, 1, 3, 3, 4, 5, 0, 0)
        batch = (2, 2, *row, *other)
        return [bytes([call, *ids, *more]) for call in range(16)
                for ids, more in ((row, limit if call > 13 else other), (batch, limit if call > 13 else batch),
                                  (array, limit if call > 13 else array))]

    def mutate(self, data, random):
        return mutators.of_bytes(data, random)

    def run(self, data):
        bytes_left = iter(data)
        call = next(bytes_left, 0)
        model, (ids, more) = self._models[call & 1], (value(bytes_left), value(bytes_left))
        kind = call >> 1 & 7
        if kind == 0:
            model.encode(ids)
        elif kind == 1:
            model.logits(ids, more)
        elif kind == 2:
            model.generate(ids, 3)
        elif kind == 3:
            model.generate([3, 4], 3, decoder_input_ids=ids, num_beams=1 + call // 128)
        elif kind == 4:
            model.score(ids, more)
        elif kind == 5:
            model.tokenizer.decode(ids)
        elif kind == 6:
            model.trace(ids, more)
        else:
            model.generate(ids, more)


def value(bytes_left, depth=0):
    """The next value that the bytes ask for."""
    kind = next(bytes_left, 0) % 10
    if kind <= 1 or depth > 5:
        return next(bytes_left, 3) % 8
    if kind <= 4:
        items = [value(bytes_left, depth + 1) for _ in range(next(bytes_left, 0) % 7)]
        return tuple(items) if kind == 4 else items
    if kind == 5:
        shape = [next(bytes_left, 0) % 5 for _ in range(next(bytes_left, 0) % 4)]
        return _array(bytes_left, shape)
    if kind == 6:
        return _NUMBERS[next(bytes_left, 0) % len(_NUMBERS)]
    if kind == 7:
        return (item for item in (3, 4))
    return _OTHERS[next(bytes_left, 0) % len(_OTHERS)]


def _array(bytes_left, shape):
    values = np.array([next(bytes_left, 3) % 9 for _ in range(int(np.prod(shape)))], "int64").reshape(shape)
    kind = _TYPES[next(bytes_left, 0) % len(_TYPES)]
    array = values.astype("S2" if kind == "S2" else kind)
    return array[::-1] if array.ndim and next(bytes_left, 0) % 2 else array
