"""One small class for each way in which bytes from outside get into rtfast: `HARNESSES`, by name."""

from .calls import Ids, Options
from .folders import Configs, Families, GenerationFile, ShardIndex
from .tokenizer_files import SentencePieceModel, TokenizerConfig, TokenizerJson, Vocabulary
from .traces import NpzTrace, SafetensorsTrace
from .weights import NpzWeights, Weights, WeightsBesidePackage

HARNESSES = {harness.name: harness for harness in (
    Weights, WeightsBesidePackage, ShardIndex, Configs, Families, GenerationFile, Options, Ids, TokenizerJson,
    SentencePieceModel, Vocabulary, TokenizerConfig, NpzTrace, SafetensorsTrace,
    NpzWeights)}
