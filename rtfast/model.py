"""`Transformer`: a config, weights and perhaps a tokenizer, ready to run.

A model is immutable and may be shared by threads. It holds its programs and its packed weights;
each call borrows a workspace (idle_workspaces.py) for the memory that it changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import backends, checkpoint, generate, inputs, tracing
from .config import check_config, shown
from .decoder_steps import DecoderSteps
from .generation_options import GenerationOptions
from .idle_workspaces import BATCH, IdleWorkspaces
from .logits_rules import log_softmax, rules_of
from .packing import PackedWeights
from .screening import Screening
from .streaming import stream_text
from .tokenizer import WordTokenizer
from .trace import Trace
from .transformer import decoder_program, encoder_program
from .weights import prepare_weights, random_weights
from .words import reads_ids, text_of
from .workspace import capacity_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rtfast.config import Config
    from rtfast.generation_options import Limits
    from rtfast.idle_workspaces import _Borrowed
    from rtfast.logits_rules import Rules
    from rtfast.program import Program
    from rtfast.search import Hypothesis
    from rtfast.typing import (
        Array,
        Change,
        Floats,
        Ids,
        MaybeNone,
        Patterns,
        Sentence,
        Sentences,
        Several,
        StrPath,
        Texts,
        Tokenizer,
    )

ENCODER, ENCODER_WITH_MEMORY, DECODER, DECODER_WITH_CHOICE, SCREENED_DECODER = range(5)

#: Words of a vocabulary from which on looking at the output layer as bytes first is faster.
WORTH_SCREENING = 4096


class Transformer:
    """An encoder-decoder Transformer ("Attention Is All You Need", section 3).

    config: a `Config`. weights: names (see `weights.weight_shapes`) to arrays or nested lists, the
    user's own values. tokenizer: anything with encode(text) -> ids, encode_target(text) -> ids and decode(ids) -> text.
    generation: the defaults of `generate`, a `GenerationOptions` or a dict of its fields, as a generation_config.json
    has them.

    Raises TypeError and ValueError for weights that do not fit the config, all of them named at once, and for fields
    that are no options; TypeError for a config, tokenizer or generation that is none.
    """

    def __init__(self, config: Config, weights: Mapping[str, Any], tokenizer: Tokenizer | None = None,
                 generation: dict[str, Any] | GenerationOptions | None = None) -> None:
        check_config("Transformer", config)
        inputs.check_tokenizer(tokenizer)
        if config.vocab_size is None:
            raise ValueError("Transformer: config must have a vocab_size, got None; from_torch's models have no words")
        self.config = config
        self.tokenizer: Tokenizer | MaybeNone = tokenizer
        #: how `generate` generates where it is not told: a GenerationOptions
        self.generation = generate.options_of(config, generation)
        if isinstance(tokenizer, WordTokenizer) and len(tokenizer) != config.vocab_size:
            raise ValueError(f"tokenizer has {len(tokenizer)} words, but the config's vocab_size is "
                             f"{config.vocab_size}")
        self._backend_name = backends.backend()
        self._backend = backends.active()
        self._programs: tuple[Program, ...] = (
            encoder_program(config, memory=False), encoder_program(config, memory=True),
            decoder_program(config), decoder_program(config, choose=True))
        if self._backend.can_screen() and config.dtype == "float32" and config.target_words >= WORTH_SCREENING:
            self._programs += (decoder_program(config, screen=True),)
        self._packed = PackedWeights(self._backend, config, prepare_weights(config, weights), self._programs)
        self._screening = None
        if len(self._programs) > SCREENED_DECODER:
            self._screening = Screening(self._packed, SCREENED_DECODER, self._programs[SCREENED_DECODER].ops[-2])
        self._workspaces = IdleWorkspaces(self._backend, self._programs, self._packed, config.max_length)

    @classmethod
    def random(cls, config: Config, seed: int = 0, vocabulary: Iterable[str] | None = None,
               scale: float | None = None) -> Transformer:
        """A model with seeded random weights, and a word tokenizer where a vocabulary is given.

        scale: multiplies standard-normal matrices; 1 / sqrt(d_in) each by default, and 1.0 in the article.

        Raises TypeError and ValueError as `random_weights`, `WordTokenizer` and `Transformer`.
        """
        check_config("Transformer.random", config)
        tokenizer = None if vocabulary is None else WordTokenizer(vocabulary)
        return cls(config, random_weights(config, seed, scale), tokenizer)

    def __repr__(self) -> str:
        c = self.config
        return (f"Transformer(d_model={c.d_model}, n_heads={c.n_heads}, d_ff={c.d_ff}, "
                f"layers={c.n_encoder_layers}+{c.n_decoder_layers}, vocab_size={c.vocab_size}, "
                f"dtype={c.dtype}, backend={self._backend_name})")

    def __copy__(self) -> Transformer:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied deeply: its weights are packed for this "
                        "CPU; model.save(folder) and rtfast.load(folder) pass it on, threads and copy.copy share it")

    def _repr_html_(self) -> str:
        from .notebook import model_html

        return model_html(self)

    @property
    def weights(self) -> dict[str, Array]:
        """Name to array, read-only, in order of use. Matrices are unpacked anew each time: keep the dict."""
        return self._packed.weights()

    @property
    def backend(self) -> str:
        """The backend that this model was packed for."""
        return self._backend_name

    # The forward pass -----------------------------------------------------------------------

    @overload
    def encode(self, ids: Sentence | Array) -> Floats: ...
    @overload
    def encode(self, ids: Several) -> Floats | list[Floats]: ...

    def encode(self, ids: Sentences) -> Any:
        """Encoder states (section 3.1) of source ids (S,) -> (S, d_model) or (B, S) -> (B, S, d_model).

        A list of sentences of several lengths gives a list of (S, d_model). Text is tokenized. A tail of
        config.pad_id in a row is no part of the sentence: nothing attends to it and its states are zeros. Its first
        one is, where pad_id is also eos_id.

        Raises TypeError for ids that are no integers, ValueError for an id outside the vocabulary and for a
        sentence of no tokens or of more than config.max_length.
        """
        batch = inputs.read_source(ids, "ids", self.config, self.tokenizer)
        states = []
        for part in batch.parts(BATCH):
            with self._borrow(part) as workspace:
                workspace.encode(ENCODER, part)
                states.append(workspace.result(ENCODER, "states"))
        states = np.concatenate(states)
        if np.isnan(states).any():
            tracing.warn_of_nan(self, batch.sentences, None)
        return batch.shaped(states)

    @overload
    def logits(self, src_ids: Sentence | Array, tgt_ids: Sentence | Array) -> Floats: ...
    @overload
    def logits(self, src_ids: Sentences, tgt_ids: Sentences) -> Floats | list[Floats]: ...

    def logits(self, src_ids: Sentences, tgt_ids: Sentences) -> Any:
        """Next-word logits (section 3.4) after each target token: (T, vocab_size) or (B, T, vocab_size).

        src_ids (S,) or (B, S); tgt_ids (T,) or (B, T): what the decoder reads, from SOS on. Errors as `encode`.
        """
        source = inputs.read_source(src_ids, "src_ids", self.config, self.tokenizer)
        target = inputs.read_target(tgt_ids, "tgt_ids", self.config, self.tokenizer, self._start_of(src_ids, tgt_ids))
        inputs.check_pairs(source, target)
        logits = [self._logits(part, target_part)
                  for part, target_part in zip(source.parts(BATCH), target.parts(BATCH), strict=True)]
        return target.shaped(np.concatenate(logits))

    def _logits(self, sources: list[Ids], targets: list[Ids]) -> Floats:
        """Of checked ids, a few sentences: (all target tokens, target words)."""
        with self._borrow(sources, targets) as workspace:
            workspace.encode(ENCODER_WITH_MEMORY, sources)
            workspace.decode(DECODER, targets)
            logits = workspace.result(DECODER, "logits")
        if np.isnan(logits).any():
            tracing.warn_of_nan(self, sources, targets)
        return logits

    # Generation -----------------------------------------------------------------------------

    @overload
    def generate(self, src: Sentences, max_new_tokens: int | None = None, *, num_return_sequences: int,
                 **options: Any) -> Any: ...
    @overload
    def generate(self, src: Sentence, max_new_tokens: int | None = None, *,
                 return_dict_in_generate: Literal[False] = False, **options: Any) -> list[int]: ...
    @overload
    def generate(self, src: Sentence, max_new_tokens: int | None = None, *,
                 return_dict_in_generate: Literal[True], **options: Any) -> Hypothesis: ...
    @overload
    def generate(self, src: Several, max_new_tokens: int | None = None, *,
                 return_dict_in_generate: Literal[False] = False, **options: Any) -> list[list[int]]: ...
    @overload
    def generate(self, src: Several, max_new_tokens: int | None = None, *,
                 return_dict_in_generate: Literal[True], **options: Any) -> list[Hypothesis]: ...
    @overload
    def generate(self, src: Sentences, max_new_tokens: int | None = None, **options: Any) -> Any: ...

    def generate(self, src: Sentences, max_new_tokens: int | None = None, *, decoder_input_ids: Any = None,
                 truncation: bool = False, max_batch_tokens: int | None = None,
                 stopping_criteria: Callable[[list[int]], object] | None = None, return_dict_in_generate: bool = False,
                 output_attentions: bool = False, **options: Any) -> Any:
        """Target ids of source sentences, by greedy search, beam search or sampling, each with its KV cache.

        src: ids (S,) or (B, S), a list of sentences, or text. decoder_input_ids: what every target begins with,
        as ids or a list of ids for each sentence; SOS goes before them unless it is there. truncation: cut a source
        to max_length tokens, its last one kept. max_batch_tokens: source tokens that are worked on at a time (4096);
        no result depends on it. stopping_criteria: called with the ids so far of a sentence, as they would be
        returned, ends it where it returns true; not with beams. options: those of `GenerationOptions` (num_beams,
        length_penalty, do_sample, ...), in place of the model's own, `model.generation`.

        Returns the ids, without SOS and with the EOS that ended them: a list of integers for one sentence, else a
        list of lists; num_return_sequences of 2 or more: a list of so many for each sentence, the best first.
        return_dict_in_generate: a `Hypothesis` in place of each list of integers, with the score: log-probability
        of the new tokens, of beams divided by length ** length_penalty. output_attentions: also its attention.

        Raises as `encode`, and as `GenerationOptions`; ValueError where there is no id to start from.
        """
        inputs.check_switch("return_dict_in_generate", return_dict_in_generate)
        inputs.check_switch("output_attentions", output_attentions)
        if output_attentions and not return_dict_in_generate:
            raise ValueError("output_attentions does nothing without return_dict_in_generate=True")
        options = self._options(max_new_tokens, options, src)
        batch = inputs.read_source(src, "src", self.config, self.tokenizer, truncation)
        prompts = self._prompts(decoder_input_ids, len(batch.sentences), options)
        found = self._generate(batch, prompts, options, max_batch_tokens, stopping_criteria,
                               scores=return_dict_in_generate, attention=output_attentions)
        if not return_dict_in_generate:
            found = [[hypothesis.ids for hypothesis in row] for row in found]
        elif reads_ids(self.tokenizer):
            found = [[hypothesis._replace(text=text_of(self.tokenizer, hypothesis.ids)) for hypothesis in row]
                     for row in found]
        if options.num_return_sequences == 1:
            found = [row[0] for row in found]
        return found[0] if batch.single else found

    @overload
    def stream(self, src: str, max_new_tokens: int | None = None, **options: Any) -> Iterator[str]: ...
    @overload
    def stream(self, src: Sequence[int] | Array, max_new_tokens: int | None = None,
               **options: Any) -> Iterator[int]: ...

    def stream(self, src: Sentence | Array, max_new_tokens: int | None = None, *, decoder_input_ids: Any = None,
               truncation: bool = False, stopping_criteria: Callable[[list[int]], object] | None = None,
               **options: Any) -> Iterator[Any]:
        """The tokens of one sentence as they are generated: a generator of ids, of pieces of text for text.

        As `generate` without beams, and one target whatever the model's own options say; the pieces side by side are
        what `translate` returns. Raises as `generate`, before the first token; ValueError for several sentences, beams
        or targets.
        """
        inputs.check_stop(stopping_criteria)
        options = self._options(max_new_tokens, {"num_beams": 1, "num_return_sequences": 1, **options}, src)
        batch = inputs.read_source(src, "src", self.config, self.tokenizer, truncation)
        if not batch.single:
            raise ValueError(f"stream: src must be one sentence, got a list of {len(batch.sentences)}")
        for name in ("num_beams", "num_return_sequences"):
            if getattr(options, name) > 1:
                raise ValueError(f"stream: {name} must be 1, got {getattr(options, name)}")
        prompt, = self._prompts(decoder_input_ids, 1, options)
        limits = options.limits(len(prompt), self.config.max_length)
        rules = rules_of(options, limits, self.config.target_words)
        tokens = self._stream(batch.sentences, prompt, options, limits, rules, stopping_criteria)
        return stream_text(tokens, self.tokenizer) if isinstance(src, str) else tokens

    @overload
    def translate(self, text: str | Texts, max_new_tokens: int | None = None, *, num_return_sequences: int,
                  **options: Any) -> Any: ...
    @overload
    def translate(self, text: str, max_new_tokens: int | None = None, *,
                  return_dict_in_generate: Literal[False] = False, **options: Any) -> str: ...
    @overload
    def translate(self, text: str, max_new_tokens: int | None = None, *,
                  return_dict_in_generate: Literal[True], **options: Any) -> Hypothesis: ...
    @overload
    def translate(self, text: Texts, max_new_tokens: int | None = None, *,
                  return_dict_in_generate: Literal[False] = False, **options: Any) -> list[str]: ...
    @overload
    def translate(self, text: Texts, max_new_tokens: int | None = None, *,
                  return_dict_in_generate: Literal[True], **options: Any) -> list[Hypothesis]: ...
    @overload
    def translate(self, text: str | Texts, max_new_tokens: int | None = None, **options: Any) -> Any: ...

    def translate(self, text: str | Texts, max_new_tokens: int | None = None, *, src_lang: str | None = None,
                  tgt_lang: str | None = None, target_prefix: str | Texts | None = None,
                  return_dict_in_generate: bool = False, **options: Any) -> Any:
        """Text to text, by way of the tokenizer and `generate`: a string for a string, a list for a list.

        src_lang, tgt_lang: codes of languages, of a tokenizer that has several (`model.tokenizer.languages`); see also
        `for_languages`. target_prefix: text that the translation begins with, or one for each text. The rest as in
        `generate`, whose `Hypothesis` has the text too. Raises ValueError where the model has no tokenizer, and as
        `generate`.
        """
        if self.tokenizer is None:
            raise ValueError("translate: this model has no tokenizer; give it one, or generate() from ids")
        if not isinstance(text, str) and not inputs.are_strings(text):
            raise TypeError("translate: text must be a string or a list of strings; generate() takes ids")
        if src_lang is not None or tgt_lang is not None:
            return self.for_languages(src_lang, tgt_lang).translate(
                text, max_new_tokens, target_prefix=target_prefix, return_dict_in_generate=return_dict_in_generate,
                **options)
        if target_prefix is not None:
            if options.get("decoder_input_ids") is not None:
                raise ValueError("translate: target_prefix and decoder_input_ids say the same; give one of them")
            options["decoder_input_ids"] = self._prefix_ids("target_prefix", target_prefix)
        found = self.generate(text, max_new_tokens, return_dict_in_generate=return_dict_in_generate, **options)
        return found if return_dict_in_generate else self._texts(found)

    def _texts(self, found: list[Any]) -> Any:
        """The texts of lists of ids, in lists as these are."""
        if found and isinstance(found[0], list):
            return [self._texts(row) for row in found]
        return text_of(self.tokenizer, found)

    def prefix_ids(self, text: str | Texts) -> list[int] | list[list[int]]:
        """Ids for `decoder_input_ids` of text that a target begins with: without the EOS that ends a whole one.

        text: a string, or a list of them for a list of lists of ids. Raises TypeError for anything else, ValueError
        where the model has no tokenizer and for a word that it does not know.
        """
        ids: list[int] | list[list[int]] = self._prefix_ids("text", text)
        return ids

    def _prefix_ids(self, name: str, text: Any) -> Any:
        if self.tokenizer is None:
            raise ValueError(f"{name}: this model has no tokenizer; give decoder_input_ids")
        if not isinstance(text, str) and not inputs.are_strings(text):
            raise TypeError(f"{name} must be a string or a list of strings, got {shown(text)}")
        end = set(self.generation.eos_ids)
        rows = [text] if isinstance(text, str) else text
        ids = [list(self.tokenizer.encode_target(row)) for row in rows]
        ids = [row[:-1] if row and row[-1] in end else row for row in ids]
        return ids[0] if isinstance(text, str) else ids

    def for_languages(self, src_lang: str | None = None, tgt_lang: str | None = None) -> Transformer:
        """This model with its tokenizer set to a pair of languages; the weights are shared.

        Raises ValueError for a code that the tokenizer lacks, and where it has no languages to choose from.
        """
        if not hasattr(self.tokenizer, "for_languages"):
            raise ValueError("src_lang and tgt_lang do nothing here: this model's tokenizer has no languages")
        other = copy.copy(self)
        other.tokenizer = self.tokenizer.for_languages(src_lang, tgt_lang)
        return other

    @overload
    def score(self, src: Sentence, tgt: Sentence, return_tokens: Literal[False] = False) -> np.floating[Any]: ...
    @overload
    def score(self, src: Sentences, tgt: Sentences, return_tokens: bool = False) -> Any: ...

    def score(self, src: Sentences, tgt: Sentences, return_tokens: bool = False) -> Any:
        """The log-probability of targets given their sources: a float, or an array (B,).

        src, tgt: as in `logits`, but tgt without SOS: all of its tokens count, EOS where it is among them; text gets
        its EOS. It starts as `generate` does. return_tokens: of every token, an array (T,), or a list of them. Errors
        as `logits`; ValueError where there is no id to start from.
        """
        inputs.check_switch("return_tokens", return_tokens)
        start = self._start_of(src, tgt)
        if start is None:
            raise ValueError("score: the config has no sos_id to start from, and `generation` neither "
                             "decoder_start_token_id nor bos_token_id")
        self._check_start(start)
        source = inputs.read_source(src, "src", self.config, self.tokenizer)
        target = inputs.read_scored(tgt, "tgt", self.config, self.tokenizer, self.generation.eos_ids)
        inputs.check_pairs(source, target)
        scores = []
        for sentence, ids in zip(source.sentences, target.sentences, strict=True):
            logits = self._logits([sentence], [np.concatenate(([start], ids[:-1]))])
            scores.append(log_softmax(logits)[np.arange(len(ids)), ids])
        if not return_tokens:
            with np.errstate(over="ignore"):
                scores = np.array([tokens.sum() for tokens in scores])
        return scores[0] if target.single else scores

    def _options(self, max_new_tokens: int | None, options: dict[str, Any], src: Any) -> GenerationOptions:
        """The model's options with the user's in their place; max_new_tokens None leaves the model's.

        Where the source is text, the tokenizer says what its target language asks for.
        """
        if inputs.is_text(src):
            options = {**getattr(self.tokenizer, "target_options", {}), **options}
        if max_new_tokens is not None:
            options = {"max_new_tokens": max_new_tokens, **options}
        return self.generation.merged(**options)

    def _start_of(self, *sentences: Any) -> int | None:
        """The id that starts targets as `generate` starts them; None where there is none. sentences: source and
        target, which may be text, whose language then has a say."""
        asked = getattr(self.tokenizer, "target_options", {}) if any(map(inputs.is_text, sentences)) else {}
        start: int | None = asked.get("decoder_start_token_id", self.generation.given_start)
        return start

    def _check_start(self, start: int) -> None:
        if not 0 <= start < self.config.target_words:
            raise ValueError(f"decoder_start_token_id must be below the {self.config.target_words} words of the "
                             f"vocabulary, got {start}")

    def _prompts(self, decoder_input_ids: Any, n: int, options: GenerationOptions) -> list[Ids]:
        """What each of n targets begins with, int64 arrays (P,), the start id first."""
        start = options.start_id
        self._check_start(start)
        if decoder_input_ids is None:
            return [options.start_array] * n
        given = inputs.read_prefixes(decoder_input_ids, "decoder_input_ids", self.config, n)
        return [ids if len(ids) and ids[0] == start else np.concatenate(([start], ids)) for ids in given]

    def _generate(self, batch: inputs.Batch, prompts: list[Ids], options: GenerationOptions,
                  max_batch_tokens: int | None, stop: Callable[[list[int]], object] | None, scores: bool,
                  attention: bool) -> list[list[Hypothesis]]:
        """`Hypothesis` lists, one for each sentence."""
        inputs.check_batch_tokens(max_batch_tokens)
        inputs.check_stop(stop)
        if stop is not None and options.num_beams > 1:
            raise ValueError("stopping_criteria: no token is sure before beam search has ended; use num_beams=1")
        results: list[Any] = [None] * len(batch.sentences)
        for places in generate.parts(batch.sentences, prompts, options, max_batch_tokens):
            sentences = [batch.sentences[p] for p in places]
            begun = np.array([prompts[p] for p in places]) if len(places) > 1 else prompts[places[0]][None]
            limits = options.limits(begun.shape[1], self.config.max_length)
            lanes = generate.lanes(options)
            targets = begun if lanes == 1 else np.repeat(begun, lanes, axis=0)
            with self._borrow(sentences, targets, limits.max_length - 1, lanes) as workspace:
                workspace.encode(ENCODER_WITH_MEMORY, sentences)
                found, bad = generate.search(
                    workspace, (DECODER, DECODER_WITH_CHOICE, self._screening), options, limits, begun,
                    self.config.target_words, places, scores=scores, stop=stop)
            if bad is not None:
                b, i = bad
                tracing.warn_of_nan(self, [sentences[b]], [[*begun[b], *found[b][i].ids[:-1]]])
            for place, sentence, prompt, row in zip(places, sentences, begun, found, strict=True):
                if attention:
                    row = [h._replace(attention=self._attention(sentence, prompt, h.ids)) for h in row]
                if len(prompt) > 1:
                    row = [h._replace(ids=prompt[1:].tolist() + h.ids) for h in row]
                results[place] = row
        return results

    def _stream(self, sentences: list[Ids], prompt: Ids, options: GenerationOptions, limits: Limits,
                rules: Rules, stop: Callable[[list[int]], object] | None) -> Iterator[int]:
        with self._borrow(sentences, [prompt], limits.max_length - 1) as workspace:
            workspace.encode(ENCODER_WITH_MEMORY, sentences)
            steps = DecoderSteps(workspace, DECODER, DECODER_WITH_CHOICE, self._screening)
            one_by_one = generate.one_by_one(steps, options, rules, limits, prompt[None], [0], stop=stop)
            yield from prompt[1:].tolist()
            for _, tokens in one_by_one:
                yield from tokens[:, 0].tolist()
        if one_by_one.bad is not None:
            tracing.warn_of_nan(self, sentences, [[*prompt, *one_by_one.hypotheses[0].ids[:-1]]])

    def _attention(self, source: Ids, prompt: Ids, ids: list[int]) -> Floats:
        """Cross-attention (layers, n_heads, T, S) of the T ids after the start, given and generated: from the same
        forward pass, done at once."""
        c, read = self.config, np.array([*prompt, *ids][:-1], np.int64)
        shape = (c.n_decoder_layers, c.n_heads, len(read), len(source))
        if 0 in shape:
            return np.zeros(shape, c.dtype)
        wanted = "decoder.layers.*.cross_attention.weights"
        trace = tracing.take(self, inputs.one(source), inputs.one(read), include=wanted)
        return np.stack(list(trace.values()))

    # Looking inside -------------------------------------------------------------------------

    def trace(self, src: Sentences, tgt: Sentences | None = None, max_new_tokens: int | None = None, *,
              include: Patterns | None = None, exclude: Patterns | None = None,
              max_bytes: int | None = tracing.MAX_BYTES) -> Trace:
        """Every named intermediate of one run, in order of computation: a `Trace`.

        src, tgt: as in `logits`, sentences of one batch all of one length. Without tgt the model generates
        first, as `generate` does, and the trace shows the decoder reading what it generated. The values are bit
        for bit those of the untraced run. include, exclude: names or patterns such as "decoder.layers.*.weights", one
        or several, of what to show and what not. max_bytes: that the trace may hold, None for any number.

        Raises as `logits`; ValueError, before anything large is taken, for a trace of more than max_bytes
        (`trace_bytes` says how many), and for a pattern that matches nothing.
        """
        source, target, generated = tracing.batches(self, src, tgt, max_new_tokens)
        return tracing.take(self, source, target, include=include, exclude=exclude, max_bytes=max_bytes,
                            generated=generated)

    def trace_bytes(self, src: Sentences, tgt: Sentences | None = None, max_new_tokens: int | None = None, *,
                    include: Patterns | None = None, exclude: Patterns | None = None) -> dict[str, int]:
        """How many bytes `trace` would hold of each intermediate, {name: bytes}, without taking them.

        Arguments and errors as `trace`.
        """
        source, target, _ = tracing.batches(self, src, tgt, max_new_tokens)
        inputs.check_pairs(source, target)
        inputs.check_one_length(source, target)
        return tracing.Selection(self.config, include, exclude).sizes(
            source, target, np.dtype(self.config.dtype).itemsize)

    def run_with(self, trace: Trace, changes: Mapping[str, Change]) -> Trace:
        """The run of a `Trace` again, some intermediates changed on the way: a new `Trace` of what follows from that.

        changes: name or pattern -> what goes in its place: an array of its shape or broadcast to it, or a function
        that is given a copy of it and returns that, such as `lambda weights: weights * [[[1]], [[0]]]`, which silences
        the second of two heads. Both sentences stay as they are: what the decoder reads was decided before. Weights
        of attention may be given to hidden keys too. Heads and "concatenated" are one array, and change together.

        Raises KeyError for a name that no intermediate has, ValueError and TypeError for what does not fit.
        """
        if not isinstance(trace, Trace):
            raise TypeError(f"run_with: trace must be a Trace, got {type(trace).__name__}")
        if not isinstance(changes, Mapping):
            raise TypeError(f"run_with: changes must be a dict of names or patterns, got {type(changes).__name__}")
        single, n = trace.single, len(trace.source_ids)
        source, target = ([ids[0] if single else ids for ids in (trace.source_ids, trace.target_ids)])
        source = inputs.read_source(source, "trace.source_ids", self.config, None)
        target = inputs.Batch(inputs.read_prefixes(target, "trace.target_ids", self.config, n), single, None)
        return tracing.take(self, source, target, include=list(trace), generated=trace.generated, changes=changes)

    # Files ----------------------------------------------------------------------------------

    def save(self, folder: StrPath) -> None:
        """Write config.json and model.safetensors into `folder`; `rtfast.load(folder)` reads them back.

        And generation_config.json, where `generation` says more than the config does. Raises TypeError for a folder
        that is no path and for a tokenizer of your own, which no file could hold; OSError.
        """
        checkpoint.save(folder, self.config, self.weights, self.tokenizer)
        checkpoint.save_generation(folder, self.generation.changes(generate.options_of(self.config)))

    # Workspaces -----------------------------------------------------------------------------

    def _borrow(self, sources: Sequence[Any], targets: Iterable[Any] = (), steps: int = 0, lanes: int = 1) -> _Borrowed:
        return self._workspaces.borrow(capacity_for(sources, targets, steps, lanes))
