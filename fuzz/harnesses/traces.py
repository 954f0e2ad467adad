"""Files of traces, of both kinds."""

import contextlib
import io

import mutators

import rtfast
from rtfast import safetensors_file

from .base import Harness, tiny_model

_WORDS = ("rtfast.trace", "format", "single", "tokens", "generated", "items", "sentence", "head", "source", "target",
          "feature", "word", "source_ids", "target_ids", "logits")


class NpzTrace(Harness):
    """An .npz archive."""

    name = "trace_npz"
    file = "trace.npz"

    def made(self):
        model = tiny_model()
        traces = (model.trace([3, 4], [1, 3], include=["*.layers.0.*.weights", "logits"]),
                  model.trace([[3, 4, 5]], [[1]], include="*.weights"),
                  model.trace("hello", max_new_tokens=2, include="logits"))
        seeds = []
        for trace in traces:
            trace.save(self.path(self.file))
            with open(self.path(self.file), "rb") as file:
                seeds.append(file.read())
        return seeds

    def mutate(self, data, random):
        return mutators.of_npz(data, random, _WORDS)

    def run(self, data):
        trace = rtfast.Trace.load(self.write(data, self.file))
        list(trace.items())
        repr(trace)
        trace.tokens, trace.nbytes  # noqa: B018
        for look in (lambda: trace.step(0), trace.alignment, trace.top, trace.lens, trace.to_dict):
            with contextlib.suppress(KeyError, ValueError):  # not every trace has what they need
                look()


class SafetensorsTrace(NpzTrace):
    """A safetensors file, whose metadata is JSON in JSON."""

    name = "trace_safetensors"
    file = "trace.safetensors"

    def mutate(self, data, random):
        if random.randrange(3):
            try:
                changed = self._other_text(data, random)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                changed = None
            if changed is not None:
                return changed
        return mutators.of_safetensors(data, random, _WORDS)

    def _other_text(self, data, random):
        """The same file with another text about the trace."""
        length = int.from_bytes(data[:8], "little")
        header = safetensors_file.parse_json("", data[8:8 + length], "")
        about = header["__metadata__"]["rtfast.trace"].encode()
        header["__metadata__"]["rtfast.trace"] = mutators.of_json(about, random, _WORDS).decode("utf-8", "replace")
        text = mutators.json.dumps(header).encode()
        file = io.BytesIO()
        file.write(len(text).to_bytes(8, "little") + text + data[8 + length:])
        return file.getvalue()
