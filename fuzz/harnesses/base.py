"""What the harnesses share: a folder, seeds, and the tiny model that hostile files are put beside."""

import os
import pathlib
import zlib

import numpy as np

import rtfast
from rtfast import CheckpointError, safetensors_file
from rtfast.families import family_of
from rtfast.weights import random_weights

FUZZ = pathlib.Path(__file__).parents[1]

TINY = {"vocab_size": 7, "d_model": 4, "n_heads": 2, "d_ff": 4, "n_encoder_layers": 1, "n_decoder_layers": 1,
        "max_length": 8, "sos_id": 1, "eos_id": 2}
WORDS = ("PAD", "SOS", "EOS", "hello", "world", "don't", ",")


class Harness:
    """One loader. name: on the command line, and of its folders of inputs. allowed: the exceptions it may raise.

    `run(data)` gives it the bytes, `seeds()` are inputs to begin with, `mutate(data, random)` is another one.
    """

    name = ""
    allowed = (CheckpointError,)
    #: bytes of memory that any input may take, besides 20 times its size
    memory = 4 * 2**20

    def __init__(self, folder):
        self.folder = str(folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, data, *names):
        """A file of the harness's folder."""
        path = self.path(*names)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def seeds(self):
        """The corpus, what once failed, and what the harness makes."""
        return [*stored_inputs("corpus", self.name), *stored_inputs("regressions", self.name), *self.made()]

    def made(self):
        """Seeds made here, in place of binary files in the corpus."""
        return []


def stored_inputs(kind, name):
    """The inputs of a harness in fuzz/corpus or fuzz/regressions, in order of their names."""
    folder = FUZZ / kind / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def one_of(data, n):
    """Whether it is this input's turn for something that costs more: true of one in n, always of the same ones."""
    return zlib.crc32(data) % n == 0


def tiny_config(**fields):
    return rtfast.Config(**{**TINY, **fields})


def tiny_model(**fields):
    return rtfast.Transformer.random(tiny_config(**fields), vocabulary=WORDS)


class _Fields(dict):
    def __missing__(self, name):
        raise KeyError(name)


def family_tensors(fields, names=()):
    """{their name: array} of a tiny checkpoint of a family whose config.json holds `fields`. names: of embeddings that
    it has."""
    family = family_of(fields["model_type"])
    config = family.config_of(_Fields(fields), {name: name for name in names})
    weights, tensors = random_weights(config, 0), {}
    for ours, source in family.sources(config, fields).items():
        array = weights[ours].T if source.transposed else weights[ours]
        array = array[None] if source.flat else array
        tensors[source.names[0]] = np.concatenate([np.zeros((source.skip, *array.shape[1:]), array.dtype), array])
    return tensors


def write_tensors(path, tensors):
    with open(path, "wb") as file:
        safetensors_file.write(file, tensors)
