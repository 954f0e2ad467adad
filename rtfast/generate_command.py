"""Text in, text out: greedy generation with random weights, with your own, or with a saved model.

Without options the model is the article's toy: its sizes, its conventions, its ten words, random weights.
Without text, each line of stdin is a sentence and each line of stdout its answer; empty lines stay empty.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rtfast
from rtfast import npz_file
from rtfast.article import VOCABULARY
from rtfast.cli import UserError, a_name, blaming_the_user, explain, note, option, whole_number
from rtfast.line_files import LineReader
from rtfast.weights import weight_shapes
from rtfast.words import text_of

if TYPE_CHECKING:
    import argparse

    from rtfast.typing import Array

EXAMPLES = """\
examples:
  rtfast generate "hello world"
  rtfast generate "hello world" --d-model 64 --heads 4 --layers 2 --seed 7 --save FOLDER
  rtfast generate --model FOLDER < lines.txt > answers.txt
  rtfast generate --vocabulary words.txt --d-model 32 --heads 4 "my own words"
  rtfast generate --config config.json --weights weights.npz --ids 4 8 15"""

#: Random weights know no Spanish; this seed of the first 36,000 answers "hello world" by "hola mundo".
DEFAULT_SEED = 35838
DEFAULT_LIMIT = 32
#: Types of weights in an .npz file: real numbers.
WEIGHT_TYPES = ("|b1", "|i1", "|u1", *(f"{order}{kind}" for order in "<>" for kind in (
    "f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")))
#: They may be compressed: random weights hardly become smaller, rounded ones half as large.
MAX_GROWTH = 8
#: A vocabulary of so many words fits an error message.
FEW_WORDS = 20

_SIZES = ("d_model", "heads", "d_ff", "layers", "d_key", "d_value")
#: What messages about a Config call something else.
_TYPED = {field: option(field) for field in ("d_model", "d_ff", "d_key", "d_value")} | {
    "n_heads": "--heads", "n_encoder_layers": "--layers", "n_decoder_layers": "--layers", "Config: ": ""}
#: Options that would be ignored beside another one, and why.
_CONFLICTS = (
    ("model", ("config", "weights", "vocabulary", *_SIZES, "dtype", "seed"),
     "a model folder has its own sizes, weights and words"),
    ("config", (*_SIZES, "dtype"), "the configuration says them all"),
    ("weights", ("seed",), "a seed draws random weights"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    size = whole_number(1)
    parser.add_argument("text", nargs="*",
                        help="the words, or with --ids their ids; without any: lines of stdin")
    parser.add_argument("--ids", action="store_true", help="read and print ids in place of words")
    parser.add_argument("--max-new-tokens", type=size, metavar="N",
                        help=f"stop after N words (default {DEFAULT_LIMIT})")
    group = parser.add_argument_group("the model's sizes")
    group.add_argument("--d-model", type=size, metavar="N", help="width (default 4)")
    group.add_argument("--heads", type=size, metavar="N", help="attention heads (default 2)")
    group.add_argument("--d-ff", type=size, metavar="N",
                       help="width inside the feed-forward network (default 2 d-model)")
    group.add_argument("--layers", type=size, metavar="N", help="in encoder and decoder each (default 6)")
    for part in ("key", "value"):
        group.add_argument(f"--d-{part}", type=size, metavar="N",
                           help="a head's width (default 3; d-model / heads where one of these is given)")
    group.add_argument("--dtype", choices=("float32", "float64"), help="of all numbers (default float64)")
    group.add_argument("--config", metavar="FILE.json", type=a_name, help="all of it, the fields of Config.to_dict()")
    group = parser.add_argument_group("the model's words and weights")
    group.add_argument("--vocabulary", metavar="FILE", type=a_name, help="one word per line, SOS and EOS among them")
    group.add_argument("--seed", type=whole_number(0), metavar="N",
                       help=f"of the random weights (default {DEFAULT_SEED})")
    group.add_argument("--weights", metavar="FILE.npz", type=a_name,
                       help="arrays by the names that rtfast.weights.weight_shapes(config) has")
    group.add_argument("--model", metavar="FOLDER", type=a_name, help="a whole model that --save or model.save wrote")
    group.add_argument("--save", metavar="FOLDER", type=a_name, help="write the model there")


def run(arguments: argparse.Namespace) -> None:
    """Make the model, save it if asked to, and answer the text or every line of stdin."""
    check_conflicts(arguments)
    model = make_model(arguments)
    answer = Answers(model, arguments.ids, arguments.max_new_tokens)
    if arguments.save is not None:
        with blaming_the_user("--save"):
            model.save(arguments.save)
    if arguments.text:
        print(answer(" ".join(arguments.text)))
        return
    with LineReader(program="rtfast generate") as reader:
        while chunk := reader.chunk(1):
            # Flushed line by line: whoever wrote the line may be waiting for its answer.
            for number, line in chunk:
                print(answer(line, f"{reader.name}: line {number}") if line.strip() else "", flush=True)


def check_conflicts(arguments: argparse.Namespace) -> None:
    """Raise UserError for an option that another one would make void."""
    for field, others, reason in _CONFLICTS:
        void = [other for other in others if getattr(arguments, other) is not None]
        if getattr(arguments, field) is not None and void:
            raise UserError(f"{option(void[0])} cannot be given with {option(field)}: {reason}")


# The model --------------------------------------------------------------------------------------

def make_model(arguments: argparse.Namespace) -> rtfast.Transformer:
    """The Transformer that the options describe."""
    if arguments.model is not None:
        with blaming_the_user():
            return rtfast.load(arguments.model)
    tokenizer = None if arguments.vocabulary is None else read_vocabulary(arguments.vocabulary)
    if arguments.config is None:
        tokenizer = tokenizer or rtfast.WordTokenizer(VOCABULARY)
        config = config_of_sizes(arguments, tokenizer)
    else:
        config, tokenizer = read_config(arguments.config, tokenizer)
    if arguments.weights is None:
        check_memory(config)
        with blaming_the_user():
            seed = DEFAULT_SEED if arguments.seed is None else arguments.seed
            weights = rtfast.Transformer.random(config, seed).weights
    else:
        weights = read_weights(arguments.weights)
    with blaming_the_user(arguments.weights or ""):
        return rtfast.Transformer(config, weights, tokenizer)


def config_of_sizes(arguments: argparse.Namespace, tokenizer: rtfast.WordTokenizer) -> rtfast.Config:
    """The article's Config with the sizes of the options and the tokenizer's vocabulary."""
    asked = {
        "d_model": arguments.d_model, "n_heads": arguments.heads, "d_ff": arguments.d_ff,
        "n_encoder_layers": arguments.layers, "n_decoder_layers": arguments.layers, "dtype": arguments.dtype}
    fields = {field: value for field, value in asked.items() if value is not None}
    if "d_model" in fields or "n_heads" in fields:
        fields |= {"d_key": None, "d_value": None}
    if "d_model" in fields:
        fields.setdefault("d_ff", 2 * fields["d_model"])
    for field in ("d_key", "d_value"):
        if getattr(arguments, field) is not None:
            fields[field] = getattr(arguments, field)
    with blaming_the_user(options=_TYPED):
        return rtfast.Config.article(vocab_size=len(tokenizer), sos_id=tokenizer.sos_id,
                                     eos_id=tokenizer.eos_id, **fields)


def read_config(path: str, tokenizer: rtfast.WordTokenizer | None) -> tuple[rtfast.Config, rtfast.WordTokenizer | None]:
    """(Config, tokenizer or None) of a JSON file: Config.to_dict()'s fields, or a folder's config.json."""
    with blaming_the_user(path):
        fields = parse_json(Path(path).read_text(encoding="utf-8"))
        if isinstance(fields, dict):
            fields = dict(fields)
            for name in ("model_type", "format_version"):
                fields.pop(name, None)
            own = fields.pop("tokenizer", None)
            if own is not None and tokenizer is not None:
                raise UserError(f"--vocabulary cannot be given with this --config: {path} has a vocabulary")
            if own is not None:
                tokenizer = rtfast.WordTokenizer.from_dict(own)
        if tokenizer is not None and isinstance(fields, dict):
            _fill_in(fields, tokenizer, path)
        return rtfast.Config.from_dict(fields), tokenizer


def parse_json(text: str) -> Any:
    """What the JSON text says."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _fill_in(fields: dict[str, Any], tokenizer: rtfast.WordTokenizer, path: str) -> None:
    """Let the vocabulary say what the configuration leaves open; where both speak, they must agree."""
    words = {"vocab_size": len(tokenizer), "sos_id": tokenizer.sos_id, "eos_id": tokenizer.eos_id}
    for name, value in words.items():
        if fields.get(name) is None:
            fields[name] = value
        elif fields[name] != value:
            raise UserError(f"{path}: {name} is {fields[name]!r}, but {value} in the vocabulary")


def read_vocabulary(path: str) -> rtfast.WordTokenizer:
    """The tokenizer of a file with one word per line."""
    with blaming_the_user(path):
        return rtfast.WordTokenizer(Path(path).read_text(encoding="utf-8-sig").splitlines())


def read_weights(path: str) -> dict[str, Array]:
    """{name: array} of an .npz file, which may come from anywhere: see `npz_file`."""
    with blaming_the_user():
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file")
        return npz_file.read(path, WEIGHT_TYPES, growth=MAX_GROWTH, fortran=True)


def check_memory(config: rtfast.Config) -> None:
    """Raise UserError where random weights would not fit this machine's memory, before it begins to swap."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return  # not every system tells
    size = np.dtype(config.dtype).itemsize
    # The weights, and once more in the layout that the kernels read.
    needed = 2 * size * sum(math.prod(shape) for shape in weight_shapes(config).values())
    if needed > memory:
        raise UserError(f"a model of these sizes needs {needed / 1e9:,.0f} GB; this machine has "
                        f"{memory / 1e9:,.0f} GB")


# Its answers ------------------------------------------------------------------------------------

class Answers:
    """Called with a sentence, as text or ids in text, the model's answer in the same form."""

    def __init__(self, model: rtfast.Transformer, as_ids: bool, limit: int | None) -> None:
        self.model, self.as_ids = model, as_ids
        self._noted = False
        if not as_ids and model.tokenizer is None:
            raise UserError("this model has no vocabulary: give one with --vocabulary, or ids with --ids")
        most = model.config.max_length
        self.limit = min(DEFAULT_LIMIT, most) if limit is None else limit
        if self.limit > most:
            raise UserError(f"--max-new-tokens must be at most the model's max_length of {most}, got {limit}")

    def __call__(self, text: str, where: str = "") -> str:
        """The answer to `text`; where: begins the message of an error."""
        with blaming_the_user(where):
            ids = self.model.generate(self._ids(text), self.limit, num_return_sequences=1)
        self._note(ids)
        return " ".join(map(str, ids)) if self.as_ids else text_of(self.model.tokenizer, ids)

    def _ids(self, text: str) -> list[int]:
        words = text.split()
        if not words:
            raise ValueError("the text has no words")
        if not self.as_ids:
            return self._encode(text)
        try:
            return [int(word) for word in words]
        except ValueError:
            raise ValueError(f"--ids takes whole numbers, got {text.strip()[:80]!r}") from None

    def _encode(self, text: str) -> list[int]:
        """The ids of the text; an unknown word's error says which few the model knows."""
        try:
            return list(self.model.tokenizer.encode(text))
        except ValueError as error:
            message = explain(error).removeprefix("WordTokenizer: ")
            words = getattr(self.model.tokenizer, "vocabulary", ())
            known = f"; its words are {' '.join(words)}" if 0 < len(words) <= FEW_WORDS else ""
            raise ValueError(message + known) from None

    def _note(self, ids: list[int]) -> None:
        """Say once why an answer may look strange: cut short, or nothing but EOS."""
        end = self.model.config.eos_id
        if self._noted or (ids[-1] == end and len(ids) > 1):
            return
        self._noted = True
        if ids[-1] != end:
            note(f"rtfast generate: note: stopped after {self.limit} words without EOS (--max-new-tokens)")
        elif not self.as_ids:
            note("rtfast generate: note: the answer is empty, the first word was EOS")
