"""Files of weights: safetensors, alone and beside the package of that name, and .npz as the command line reads it."""

import io
import json

import mutators
import numpy as np
from checks import Fault

import rtfast
from rtfast import CheckpointError, safetensors_file
from rtfast.cli import UserError, blaming_the_user
from rtfast.generate_command import read_weights

from .base import Harness, stored_inputs, tiny_config, tiny_model

#: What we refuse though the package accepts it, by words of our message.
STRICTER = ("dtype must be one of", "is there twice", "object of dtype, shape and data_offsets", "a BOOL must be",
            "shape must be a list of at most 32", "must start with '{'", "must need fewer than 2**63 bytes",
            "is not a plain integer of at most 20 digits")
ITEMSIZES = {name: np.dtype(code).itemsize for name, code in safetensors_file.DTYPES.items()}


def file_of(header):
    """A whole file of header text from the corpus: its length before it, and as much data as it asks for."""
    tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
    size = max((entry["data_offsets"][1] for entry in tensors), default=0)
    return len(header).to_bytes(8, "little") + header + bytes(i % 2 for i in range(size))


class Weights(Harness):
    """read, stored and metadata of any bytes."""

    name = "weights"

    def seeds(self):
        return [file_of(header) for header in stored_inputs("corpus", "weights")] + stored_inputs(
            "regressions", self.name) + self.made()

    def made(self):
        file = io.BytesIO()
        safetensors_file.write(file, {"a": np.eye(3, dtype="f4"), "b": np.arange(2), "c": np.float16(1)}, {"k": "v"})
        return [file.getvalue()]

    def mutate(self, data, random):
        return mutators.of_safetensors(data, random)

    def run(self, data):
        path = self.write(data, "model.safetensors")
        tensors = safetensors_file.read(path)
        stored = safetensors_file.stored(path)
        for name, array in tensors.items():
            if stored[name].shape and not np.array_equal(stored[name].rows(0, len(array)), array, equal_nan=True):
                raise Fault("the rows of a stored tensor differ")
        safetensors_file.metadata(path)


class WeightsBesidePackage(Weights):
    """Nothing that the package rejects is accepted, and what both accept has equal bytes."""

    name = "weights_beside_package"
    allowed = ()

    def __init__(self, folder):
        import safetensors

        super().__init__(folder)
        self._package = safetensors

    def run(self, data):
        try:
            theirs = dict(self._package.deserialize(data))
        except self._package.SafetensorError:
            theirs = None
        try:
            ours = safetensors_file.read(self.write(data, "model.safetensors"))
        except CheckpointError as error:
            if theirs is not None and not any(reason in str(error) for reason in STRICTER):
                raise Fault(f"only the package accepts it\n{error}") from error
            return
        if theirs is None or set(ours) != set(theirs):
            raise Fault("the package rejects it")
        for name, array in ours.items():
            info = theirs[name]
            if info["dtype"] == "BF16":
                array = (array.view(np.uint32) >> 16).astype(np.uint16)
            if (array.shape, array.dtype, array.tobytes()) != (
                    tuple(info["shape"]), safetensors_file.DTYPES[info["dtype"]], bytes(info["data"])):
                raise Fault(f"other values\n{name!r}")


class NpzWeights(Harness):
    """`rtfast generate --weights`: an .npz archive of a tiny model's weights."""

    name = "weights_npz"

    def made(self):
        # One layer is enough, and keeps most changes in what is read first.
        weights = dict(tiny_model(**self._SMALL).weights)
        columns = {name: np.asfortranarray(array.astype("f4")) for name, array in weights.items()}
        seeds = []
        for save, arrays in ((np.savez, weights), (np.savez_compressed, columns), (np.savez, columns),
                             (np.savez_compressed, {"a": np.zeros(900_000)}),
                             (np.savez, {"a": np.array([{}], object)})):
            file = io.BytesIO()
            save(file, **arrays)
            seeds.append(file.getvalue())
        return seeds

    def mutate(self, data, random):
        return mutators.of_npz(data, random)

    def run(self, data):
        path = self.write(data, "weights.npz")
        try:
            weights = read_weights(path)
            with blaming_the_user(path):
                rtfast.Transformer(tiny_config(**self._SMALL), weights)
        except UserError as error:
            raise CheckpointError(str(error)) from error

    _SMALL = {"n_encoder_layers": 1, "n_decoder_layers": 0}
