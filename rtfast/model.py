"""`Transformer`: a config, weights and perhaps a tokenizer, ready to run.

A model is immutable and may be shared by threads. It holds its programs and its packed weights;
each call borrows a workspace (workspace.py) for the memory that it changes.
"""

import os
import warnings

import numpy as np

from . import backends, checkpoint, generate, inputs
from .packing import PackedWeights
from .tokenizer import WordTokenizer
from .trace import Trace
from .transformer import decoder_program, encoder_program
from .weights import prepare_weights, random_weights
from .workspace import Capacity, Workspace

ENCODER, ENCODER_WITH_MEMORY, DECODER, DECODER_WITH_CHOICE = range(4)
TRACED_ENCODER, TRACED_DECODER = range(2)

#: Sentences that are encoded and decoded at a time, and idle workspaces that are kept.
BATCH, IDLE_WORKSPACES = 64, 4


class Transformer:
    """An encoder-decoder Transformer ("Attention Is All You Need", section 3).

    config: a `Config`. weights: names (see `weights.weight_shapes`) to arrays or nested lists, the
    user's own values. tokenizer: anything with encode(text) -> ids and decode(ids) -> text.

    Raises TypeError and ValueError for weights that do not fit the config, all of them named at once.
    """

    def __init__(self, config, weights, tokenizer=None):
        self.config = config
        self.tokenizer = tokenizer
        if isinstance(tokenizer, WordTokenizer) and len(tokenizer) != config.vocab_size:
            raise ValueError(f"tokenizer has {len(tokenizer)} words, but the config's vocab_size is "
                             f"{config.vocab_size}")
        self._backend_name = backends.backend()
        self._backend = backends.active()
        self._weights = prepare_weights(config, weights)
        self._programs = (encoder_program(config, memory=False), encoder_program(config, memory=True),
                          decoder_program(config), decoder_program(config, choose=True))
        self._packed = PackedWeights(self._backend, config, self._weights, self._programs)
        self._idle = []

    @classmethod
    def random(cls, config, seed=0, vocabulary=None, scale=None):
        """A model with seeded random weights, and a word tokenizer where a vocabulary is given.

        scale: multiplies standard-normal matrices; 1 / sqrt(d_in) each by default, and 1.0 in the article.
        """
        tokenizer = None if vocabulary is None else WordTokenizer(vocabulary)
        return cls(config, random_weights(config, seed, scale), tokenizer)

    def __repr__(self):
        c = self.config
        return (f"Transformer(d_model={c.d_model}, n_heads={c.n_heads}, d_ff={c.d_ff}, "
                f"layers={c.n_encoder_layers}+{c.n_decoder_layers}, vocab_size={c.vocab_size}, "
                f"dtype={c.dtype}, backend={self._backend_name})")

    @property
    def weights(self):
        """Name to array, read-only, in order of use."""
        return dict(self._weights)

    @property
    def backend(self):
        """The backend that this model was packed for."""
        return self._backend_name

    # The forward pass -----------------------------------------------------------------------

    def encode(self, ids):
        """Encoder states (section 3.1) of source ids (S,) -> (S, d_model) or (B, S) -> (B, S, d_model).

        A list of sentences of several lengths gives a list of (S, d_model). Text is tokenized. A tail of
        config.pad_id in a row is no part of the sentence: nothing attends to it and its states are zeros.

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
            self._warn_of_nan(batch.sentences, None)
        return batch.shaped(states)

    def logits(self, src_ids, tgt_ids):
        """Next-word logits (section 3.4) after each target token: (T, vocab_size) or (B, T, vocab_size).

        src_ids (S,) or (B, S); tgt_ids (T,) or (B, T): what the decoder reads, from SOS on. Errors as `encode`.
        """
        source = inputs.read_source(src_ids, "src_ids", self.config, self.tokenizer)
        target = inputs.read_target(tgt_ids, "tgt_ids", self.config, self.tokenizer)
        inputs.check_pairs(source, target)
        logits = []
        for part, target_part in zip(source.parts(BATCH), target.parts(BATCH), strict=True):
            with self._borrow(part, target_part) as workspace:
                workspace.encode(ENCODER_WITH_MEMORY, part)
                workspace.decode(DECODER, target_part)
                logits.append(workspace.result(DECODER, "logits"))
        logits = np.concatenate(logits)
        if np.isnan(logits).any():
            self._warn_of_nan(source.sentences, target.sentences)
        return target.shaped(logits)

    # Generation -----------------------------------------------------------------------------

    def generate(self, src, max_new_tokens=None):
        """The likeliest next word again and again (greedy), from SOS until EOS or `max_new_tokens`.

        src: ids (S,) or (B, S), a list of sentences, or text. Returns the generated ids, without SOS and with
        the EOS that ended them: a list of integers for one sentence, else a list of lists.

        Raises as `encode`; ValueError where the config has no sos_id or max_new_tokens does not fit max_length.
        """
        batch = inputs.read_source(src, "src", self.config, self.tokenizer)
        limit = generate.check_limit(self.config, max_new_tokens)
        outputs = []
        for part in batch.parts(BATCH):
            with self._borrow(part, steps=limit) as workspace:
                workspace.encode(ENCODER_WITH_MEMORY, part)
                ids, bad = generate.greedy(workspace, DECODER_WITH_CHOICE, len(part), self.config, limit)
            if bad is not None:
                self._warn_of_nan([part[bad]], [[self.config.sos_id, *ids[bad][:-1]]])
            outputs += ids
        return outputs[0] if batch.single else outputs

    def translate(self, text, max_new_tokens=None):
        """Text to text, by way of the tokenizer and `generate`: a string for a string, a list for a list.

        Raises ValueError where the model has no tokenizer, and as `generate`.
        """
        if self.tokenizer is None:
            raise ValueError("translate: this model has no tokenizer; give it one, or generate() from ids")
        if not isinstance(text, str) and not all(isinstance(sentence, str) for sentence in text):
            raise TypeError("translate: text must be a string or a list of strings; generate() takes ids")
        ids = self.generate(text, max_new_tokens)
        if isinstance(text, str):
            return self.tokenizer.decode(ids)
        return [self.tokenizer.decode(sentence) for sentence in ids]

    # Looking inside -------------------------------------------------------------------------

    def trace(self, src, tgt=None, max_new_tokens=None):
        """Every named intermediate of one run, in order of computation: a `Trace`.

        src, tgt: as in `logits`, sentences of one batch all of one length. Without tgt the model generates
        first, and the trace shows the decoder reading what it generated. The values are bit for bit those of
        the untraced run.
        """
        source = inputs.read_source(src, "src", self.config, self.tokenizer)
        if tgt is None:
            generated = self.generate(source.sentences, max_new_tokens)
            read = [np.array([self.config.sos_id, *ids[:-1]]) for ids in generated]
            target = inputs.Batch(read, source.single, None)  # all of it, padding that was generated too
            lengths = sorted({len(ids) for ids in generated})
            if len(lengths) > 1:
                raise ValueError(f"a trace shows sentences of one length, but of {lengths} words were generated: "
                                 "trace them one at a time, or give tgt")
            generated = generated[0] if source.single else generated
        else:
            generated = None
            target = inputs.read_target(tgt, "tgt", self.config, self.tokenizer)
        inputs.check_pairs(source, target)
        inputs.check_one_length(source, target)
        return self._trace(source, target, generated)

    def _trace(self, source, target, generated=None):
        programs = (encoder_program(self.config, memory=True),
                    decoder_program(self.config, probabilities=True))
        capacity = _capacity(source.sentences, target.sentences)
        workspace = Workspace(self._backend, programs, self._packed, capacity, trace=True)
        trace = Trace(source, target, self.tokenizer, generated)
        workspace.encode(TRACED_ENCODER, source.sentences)
        trace.take(workspace, TRACED_ENCODER, programs[TRACED_ENCODER], source)
        workspace.decode(TRACED_DECODER, target.sentences)
        trace.take(workspace, TRACED_DECODER, programs[TRACED_DECODER], target)
        return trace

    def _warn_of_nan(self, sources, targets):
        """Say which intermediate of the first sentence that has a NaN had it first."""
        targets = targets or [[self.config.sos_id or 0]] * len(sources)
        for source, target in zip(sources, targets, strict=True):
            trace = self._trace(inputs.one(source), inputs.one(np.asarray(target)))
            name = trace.first_nan()
            if name is not None:
                warnings.warn(
                    f"the result is NaN: it appeared first in {name} = {trace.formula(name)}",
                    RuntimeWarning, stacklevel=3)
                return

    # Files ----------------------------------------------------------------------------------

    def save(self, folder):
        """Write config.json and model.safetensors into `folder`; `rtfast.load(folder)` reads them back."""
        checkpoint.save(folder, self.config, self._weights, self.tokenizer)

    # Workspaces -----------------------------------------------------------------------------

    def _borrow(self, sources, targets=(), steps=0):
        return _Borrowed(self, _capacity(sources, targets, steps))


class _Borrowed:
    """A workspace of the model for the time of a `with`: an idle one that is large enough, or a new one.

    Only list.pop and list.extend touch the idle ones, each of them atomic: a workspace belongs to the thread
    that popped it, and a fork in between leaves no lock behind.
    """

    def __init__(self, model, capacity):
        self._model, self._capacity = model, capacity

    def __enter__(self):
        model, idle = self._model, self._model._idle
        self._workspace, too_small = None, []
        while self._workspace is None and (workspace := _pop(idle)):
            if workspace.capacity.covers(self._capacity):
                self._workspace = workspace
            else:
                too_small.append(workspace)
        idle.extend(too_small)
        if self._workspace is None:
            capacity = self._capacity.rounded_up(BATCH, model.config.max_length)
            self._workspace = Workspace(model._backend, model._programs, model._packed, capacity)
        return self._workspace

    def __exit__(self, kind, error, traceback):
        # Only after a run that went well: nothing is left half done in a workspace that is used again.
        if kind is None:
            idle, others = self._model._idle, []
            while workspace := _pop(idle):
                if not self._workspace.capacity.covers(workspace.capacity):
                    others.append(workspace)
            idle.extend([*others[:IDLE_WORKSPACES - 1], self._workspace])


def _pop(idle):
    """The last of a list that other threads pop from too, or None."""
    try:
        return idle.pop() if idle else None
    except IndexError:
        return None


def _capacity(sources, targets, steps=0):
    """What the sentences take; with `steps`, each target grows token by token to that length."""
    lengths = [len(ids) for ids in sources]
    target_lengths = [len(ids) for ids in targets]
    rows = max(sum(target_lengths), len(sources) if steps else 0)
    return Capacity(len(sources), sum(lengths), max(lengths), rows, max([steps, *target_lengths]))


#: The model that comes with rtfast: English to Spanish, within the grammar of docs/shipped_model.md.
SHIPPED = os.path.join(os.path.dirname(__file__), "models", "en_es")


def load(folder=None):
    """The model in a folder: one that `Transformer.save` wrote, bit for bit, or a Hugging Face checkpoint.

    Of the latter MarianMT, BART, mBART, M2M100, NLLB and T5 (rtfast/families), without their tokenizers. Without a
    folder: the small English-to-Spanish model that comes with rtfast.

    Raises FileNotFoundError for a missing file, `checkpoint.CheckpointError` (a ValueError) for a bad one.
    """
    return Transformer(*checkpoint.load(SHIPPED if folder is None else folder))
