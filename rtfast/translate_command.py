"""Translation of text, of a file, or of the lines of stdin, with the model that comes with rtfast or another.

The model that comes along turns English into Spanish, within a small grammar (docs/shipped_model.md): a word
that it does not know is an error. A line of input gives a line of output, in order; empty lines stay empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rtfast
from rtfast.cli import UserError, a_name, blaming_the_user, file_name, option, whole_number
from rtfast.line_files import LineReader, LineWriter
from rtfast.progress import progress
from rtfast.words import text_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

EXAMPLES = """\
examples:
  rtfast translate "Hello world"
  rtfast translate "the red house" "we will dance tomorrow"
  rtfast translate < in.txt > out.txt
  rtfast translate --model FOLDER --input in.txt --output out.txt --resume
  rtfast translate --model owner/name --num-beams 5 --num-return-sequences 5 --scores "a sentence"
  rtfast translate --model FOLDER --src-lang eng_Latn --tgt-lang spa_Latn < in.txt"""

#: Lines that are translated at a time: enough to put sentences of one length together.
LINES = 512

#: Options of `Transformer.generate`, which the model's own defaults stand for where they are not given, but for
#: num_return_sequences.
_OPTIONS = ("num_beams", "num_return_sequences", "length_penalty", "no_repeat_ngram_size", "repetition_penalty",
            "max_new_tokens")
#: What messages of the library call something else.
_TYPED = {field: option(field) for field in (*_OPTIONS, "src_lang", "tgt_lang", "max_batch_tokens")} | {
    "decoder_input_ids": "--target-prefix", " where do_sample is False": ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="*", help="sentences, a translation each; without any: the lines of the input")
    parser.add_argument("--model", metavar="MODEL", type=a_name,
                        help="a folder, or a name on the hub (default: English-Spanish)")
    group = parser.add_argument_group("files")
    group.add_argument("--input", metavar="FILE", type=file_name, help="lines to translate (default, and -: stdin)")
    group.add_argument("--output", metavar="FILE", type=file_name, help="where to write them (default, and -: stdout)")
    group.add_argument("--resume", action="store_true", help="go on where the output ends")
    group.add_argument("--force", action="store_true", help="overwrite the output")
    group.add_argument("--progress", action="store_true", default=None, help="show it though stderr is no terminal")
    group.add_argument("--quiet", action="store_false", dest="progress", help="show no progress")
    group = parser.add_argument_group("translation")
    group.add_argument("--src-lang", metavar="CODE", help="language of the text, where the model has several")
    group.add_argument("--tgt-lang", metavar="CODE", help="language to translate into")
    group.add_argument("--target-prefix", metavar="TEXT", help="what every translation begins with")
    group.add_argument("--num-beams", type=whole_number(1), metavar="N", help="beam search with N beams")
    group.add_argument("--num-return-sequences", type=whole_number(1), metavar="N",
                       help="the N best of each line, one line each (default 1)")
    group.add_argument("--scores", action="store_true", help="begin every line with its score and a tab")
    group.add_argument("--length-penalty", type=float, metavar="X", help="of beams: score / length ** X")
    group.add_argument("--no-repeat-ngram-size", type=whole_number(1), metavar="N", help="no N words twice")
    group.add_argument("--repetition-penalty", type=float, metavar="X", help="of words that came before")
    group.add_argument("--max-new-tokens", type=whole_number(1), metavar="N",
                       help="stop after N words (default: as the model says, or as many as it has positions)")
    group.add_argument("--max-batch-tokens", type=whole_number(1), metavar="N", help="words worked on at a time")
    group.add_argument("--truncation", action="store_true", help="cut lines that are too long for the model")
    group.add_argument("--stream", action="store_true", help="print one sentence as it is generated")


def run(arguments: argparse.Namespace) -> None:
    """Load the model, then translate the sentences or every line of the input."""
    check_together(arguments)
    translator = Translator(arguments)
    if arguments.stream:
        for piece in translator.stream(arguments.text[0]):
            print(piece, end="", flush=True)
        print()
        return
    for number, sentence in enumerate(arguments.text, start=1):
        place = f"text {number}" if len(arguments.text) > 1 else ""
        print("\n".join(translator([sentence], [place])[0]))
    if not arguments.text:
        translate_lines(translator, arguments)


def check_together(arguments: argparse.Namespace) -> None:
    """Raise UserError for options that another one makes void."""
    for field in ("input", "output"):
        if arguments.text and getattr(arguments, field) is not None:
            raise UserError(f"{option(field)} cannot be given with text on the command line")
    if (arguments.resume or arguments.force) and arguments.output is None:
        raise UserError(f"--{'resume' if arguments.resume else 'force'} needs --output FILE")
    if arguments.resume and arguments.force:
        raise UserError("--resume cannot be given with --force: one keeps the output, the other does not")
    if arguments.stream and len(arguments.text) != 1:
        raise UserError(f"--stream needs one sentence on the command line, got {len(arguments.text)}")
    for field in ("num_beams", "num_return_sequences", "scores", "length_penalty"):
        if arguments.stream and getattr(arguments, field):
            raise UserError(f"{option(field)} cannot be given with --stream")


def translate_lines(translator: Translator, arguments: argparse.Namespace) -> None:
    """The input's lines, chunk by chunk."""
    with LineReader(arguments.input) as reader:
        if arguments.output is not None and reader.reads(arguments.output):
            raise UserError(f"{arguments.output}: is the input; --output must be another file")
        with LineWriter(arguments.output, resume=arguments.resume, force=arguments.force,
                        together=arguments.num_return_sequences or 1) as writer, \
                progress(arguments.progress, reader.size, reader.typed or writer.seen) as shown:
            reader.skip(writer.done)
            while chunk := reader.chunk(LINES):
                translations = translator([line for _, line in chunk],
                                          [f"{reader.name}: line {number}" for number, _ in chunk])
                writer.write([line for lines in translations for line in lines])
                shown.advance(len(chunk), translator.tokens, reader.read_bytes)


class Translator:
    """Called with sentences, their translations as lines; `tokens` is then how many words these have."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        with blaming_the_user(options=_TYPED):
            self._model = rtfast.load(arguments.model)
            if self._model.tokenizer is None:
                raise UserError(f"{arguments.model}: this model has no tokenizer; rtfast generate --ids takes ids")
            if arguments.src_lang is not None or arguments.tgt_lang is not None:
                self._model = self._model.for_languages(arguments.src_lang, arguments.tgt_lang)
        self._tokenizer = self._model.tokenizer
        self._options = {field: getattr(arguments, field) for field in _OPTIONS
                         if getattr(arguments, field) is not None}
        # A line of input gives one of output unless the command line says otherwise: the model's options do not.
        self._many, self._scores = arguments.num_return_sequences or 1, arguments.scores
        self._options = {**getattr(self._tokenizer, "target_options", {}), **self._options,
                         "num_return_sequences": self._many}
        self._truncation = arguments.truncation
        with blaming_the_user("--target-prefix"):
            self._prefix = None if arguments.target_prefix is None else self._model.prefix_ids(arguments.target_prefix)
        self._max_batch_tokens, self._shipped = arguments.max_batch_tokens, arguments.model is None
        self.tokens = 0
        with blaming_the_user(options=_TYPED):
            self._model.generation.merged(**self._options)

    def __call__(self, sentences: Sequence[str], where: Sequence[str]) -> list[list[str]]:
        """Lines for each of the sentences; where: begins the message of an error in each."""
        ids, limit = [], self._model.config.max_length
        for sentence, place in zip(sentences, where, strict=True):
            with blaming_the_user(place):
                ids.append(self._tokenizer.encode(sentence) if sentence.strip() else [])
                if len(ids[-1]) > limit and not self._truncation:
                    raise UserError(f"{place + ': ' if place else ''}{len(ids[-1])} words, but the model reads at most "
                                    f"{limit} (--truncation cuts)")
        full = [i for i, words in enumerate(ids) if words]
        out, self.tokens = [[""] * self._many for _ in sentences], 0
        if full:
            with blaming_the_user(options=_TYPED):
                found = self._generated([ids[i] for i in full])
            for i, lines in zip(full, found, strict=True):
                out[i] = [self._line(hypothesis, sentences[i]) for hypothesis in lines]
        return out

    def stream(self, sentence: str) -> Iterator[str]:
        """The pieces of one translation; none of an empty sentence."""
        if not sentence.strip():
            return
        begun = False
        with blaming_the_user(options=_TYPED):
            for piece in self._model.stream(sentence, truncation=self._truncation, decoder_input_ids=self._prefix,
                                            **self._options):
                yield as_written(piece, sentence) if self._shipped and not begun else piece
                begun = begun or any(map(str.isalpha, piece))

    def _generated(self, ids: list[Any]) -> list[list[Any]]:
        """For each sentence a list of ids, or of `Hypothesis` where scores are wanted."""
        found = self._model.generate(
            ids, decoder_input_ids=self._prefix, truncation=self._truncation,
            max_batch_tokens=self._max_batch_tokens, return_dict_in_generate=self._scores, **self._options)
        found = found if self._many > 1 else [[one] for one in found]
        for row in found:  # the rules may leave fewer than were asked for
            row += [row[-1]] * (self._many - len(row))
        return found

    def _line(self, hypothesis: Any, sentence: str) -> str:
        words = hypothesis.ids if self._scores else hypothesis
        self.tokens += len(words)
        text = " ".join(text_of(self._tokenizer, words).splitlines())
        text = as_written(text, sentence) if self._shipped else text
        return f"{hypothesis.score:.6f}\t{text}" if self._scores else text


def as_written(translation: str, text: str) -> str:
    """The translation with a capital letter where the text begins with one: the words are all lower case."""
    first = next((letter for letter in text if letter.isalpha()), "")
    for i, letter in enumerate(translation):
        if letter.isalpha():
            return translation[:i] + letter.upper() + translation[i + 1:] if first.isupper() else translation
    return translation
