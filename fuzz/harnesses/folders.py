"""The JSON files of a model's folder: config.json, the shard index, generation_config.json."""

import contextlib
import json
import os
import re

import mutators

from rtfast import CheckpointError, checkpoint, loading
from rtfast.families import FAMILIES, family_of
from rtfast.huggingface_folder import INDEX_FILE
from rtfast.weights import MAX_POSITIONS

from .base import Harness, family_tensors, one_of, stored_inputs, tiny_model, write_tensors

#: Of those that load, a model is made and used of one in so many.
USED = 4
#: Bytes that a table of positions takes while it is made, in float64 and its parts.
TABLE = 24 * MAX_POSITIONS


def load(folder, data):
    """Read a folder, and use its model now and then."""
    if not one_of(data, USED):
        checkpoint.load(folder, stored=True)
        return
    model = loading.load(folder)  # not rtfast.load: its first use would open a module, which the checks take for ours
    # Ids that only a search misses, lengths that do not fit the two words.
    with contextlib.suppress(ValueError):
        model.generate([3, 4], 2)


class Configs(Harness):
    """Our own config.json beside the weights of a tiny model."""

    name = "config"
    memory = Harness.memory + TABLE

    def __init__(self, folder):
        super().__init__(folder)
        for model_type in FAMILIES:
            family_of(model_type)  # imports it
        tiny_model().save(self.folder)
        with open(self.path("config.json"), "rb") as file:
            self._saved = file.read()
        self._words = (*json.loads(self._saved), "sinusoidal", "halves", "tensor2tensor", "learned", "relative",
                       "float32", "float64", "relu", "gelu", "marian", "subwords", "word")

    def made(self):
        return [self._saved]

    def mutate(self, data, random):
        return mutators.of_json(data, random, self._words)

    def run(self, data):
        self.write(data, "config.json")
        load(self.folder, data)


class Families(Harness):
    """config.json of the Hugging Face families, each beside weights that fit its seed."""

    name = "families"
    memory = Harness.memory + TABLE
    _WORDS = ("relu", "gelu", "gelu_new", "swish", "gated-gelu", "gated-silu", "marian", "bart", "mbart", "m2m_100",
              "t5", "mt5", "decoder_vocab_size", "share_encoder_decoder_embeddings", "num_decoder_layers",
              "scale_embedding", "num_beams", "max_length", "forced_eos_token_id", "bad_words_ids",
              "scale_decoder_outputs", "tie_word_embeddings", "relative_attention_max_distance", "layer_norm_epsilon",
              "do_sample")

    def __init__(self, folder):
        super().__init__(folder)
        self._kinds = []
        for config in stored_inputs("corpus", self.name):
            fields = json.loads(config)
            kind = fields["model_type"]
            self._kinds.append(kind)
            os.mkdir(self.path(kind))
            names = ("shared.weight", "lm_head.weight") if kind == "mt5" else ()  # one with an output layer of its own
            write_tensors(self.path(kind, "model.safetensors"), family_tensors(fields, names))

    def mutate(self, data, random):
        return mutators.of_json(data, random, self._WORDS)

    def run(self, data):
        asked = re.search(rb'"model_type": *"([a-z0-9_]*)"', data)
        kind = asked.group(1).decode() if asked else ""
        kind = kind if kind in self._kinds else self._kinds[len(data) % len(self._kinds)]
        self.write(data, kind, "config.json")
        load(self.path(kind), data)


class ShardIndex(Harness):
    """model.safetensors.index.json beside a good config.json and two shards."""

    name = "shard_index"
    allowed = (CheckpointError, FileNotFoundError)

    def __init__(self, folder):
        super().__init__(folder)
        config = next(text for text in stored_inputs("corpus", Families.name) if b'"marian"' in text)
        self.write(config, "config.json")
        tensors = family_tensors(json.loads(config))
        names = sorted(tensors)
        shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for shard, held in shards.items():
            write_tensors(self.path(shard), {name: tensors[name] for name in held})
        self._index = json.dumps({"metadata": {"total_size": 1}, "weight_map": {
            name: shard for shard, held in shards.items() for name in held}}).encode()
        self._words = (*shards, "../config.json", "/etc/passwd", "a/b.safetensors", "..", "weight_map", "x.safetensors",
                       "\\\\x.safetensors", ".safetensors")

    def made(self):
        return [self._index, json.dumps({"weight_map": {"a": self._words[0], "b": self._words[1]}}).encode()]

    def mutate(self, data, random):
        return mutators.of_json(data, random, self._words)

    def run(self, data):
        self.write(data, INDEX_FILE)
        checkpoint.load(self.folder, stored=True)


class GenerationFile(Harness):
    """generation_config.json of a tiny model, which then generates."""

    name = "generation_file"

    def __init__(self, folder):
        super().__init__(folder)
        tiny_model().save(self.folder)

    def mutate(self, data, random):
        return mutators.of_json(data, random, ("never",))

    def run(self, data):
        self.write(data, "generation_config.json")
        load(self.folder, data)
