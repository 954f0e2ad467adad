"""A model's weights as its backend reads them: packed once, shared by every workspace."""

import numpy as np

from .activations import ACTIVATIONS
from .kernels import positional_encoding


class PackedWeights:
    """What the ops of `programs` need of `weights`, packed for `backend` when made. Immutable then."""

    def __init__(self, backend, config, weights, programs):
        self.backend = backend
        self.dtype = np.dtype(config.dtype)
        self._weights = weights
        self._positional = np.ascontiguousarray(positional_encoding(
            config.max_length, config.d_model, article=config.article_positional_encoding, dtype=self.dtype))
        self._packed, self._biases = {}, {}
        for program in programs:
            for op in program.ops:
                if op.kind == "linear":
                    self._pack(op)

    def _pack(self, op):
        if op.weights not in self._packed:
            parts = [self._weights[name] for name in op.weights]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            self._packed[op.weights] = self.backend.pack(np.ascontiguousarray(whole), op.options["transposed"])
        if op.bias and op.bias not in self._biases:
            self._biases[op.bias] = np.concatenate([self._weights[name] for name in op.bias])

    def array(self, name):
        """A weight as it was given."""
        return self._weights[name]

    def positional_encoding(self):
        """(max_length, d_model)."""
        return self._positional

    def linear(self, op):
        """The PackedWeight of a linear op, its weights side by side."""
        return self._packed[op.weights]

    def bias(self, op):
        """The bias of a linear op, (d_out,), or None."""
        return self._biases[op.bias] if op.bias else None

    def activation_code(self, op):
        return ACTIVATIONS[op.options["activation"]]
