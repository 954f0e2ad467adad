"""Encoder and decoder stacks over given states, without words: what `from_torch` makes of PyTorch's modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import backends
from .foreign_arrays import as_array
from .idle_workspaces import BATCH, IdleWorkspaces
from .packing import PackedWeights
from .transformer import decoder_program, encoder_program, memory_program
from .weights import prepare_weights
from .workspace import capacity_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rtfast.config import Config
    from rtfast.idle_workspaces import _Borrowed
    from rtfast.program import Program
    from rtfast.typing import Array, Bools, DTypeLike, Floats

ENCODER, CAUSAL_ENCODER = range(2)
MEMORY, DECODER, CAUSAL_DECODER = range(3)

#: Positions that a sequence may have: there is no table of them.
MAX_LENGTH = 2**20


class _Stack:
    """Layers of one side, packed. May be shared by threads."""

    def __init__(self, config: Config, weights: Mapping[str, Any], programs: Sequence[Program]) -> None:
        self.config = config
        backend = backends.active()
        packed = PackedWeights(backend, config, prepare_weights(config, weights), programs)
        self._workspaces = IdleWorkspaces(backend, programs, packed, config.max_length)

    def _borrow(self, sources: Sequence[Floats], targets: Sequence[Floats] = ()) -> _Borrowed:
        return self._workspaces.borrow(capacity_for(sources, targets))


class EncoderStack(_Stack):
    """A `Config` without words and decoder layers, and its weights (rtfast/weights.py)."""

    def __init__(self, config: Config, weights: Mapping[str, Any]) -> None:
        super().__init__(config, weights, (encoder_program(config), encoder_program(config, causal=True)))

    def run(self, sources: Sequence[Floats], causal: bool) -> list[Floats]:
        """States (S, d_model) of sequences (S, d_model), lists of arrays."""
        which, states = CAUSAL_ENCODER if causal else ENCODER, []
        for i in range(0, len(sources), BATCH):
            part = sources[i:i + BATCH]
            with self._borrow(part) as workspace:
                workspace.encode(which, part)
                states += _split(workspace.result(which, "states"), part)
        return states


class DecoderStack(_Stack):
    """A `Config` without words and encoder layers, and its weights (rtfast/weights.py)."""

    def __init__(self, config: Config, weights: Mapping[str, Any]) -> None:
        super().__init__(config, weights, (
            memory_program(config), decoder_program(config, causal=False), decoder_program(config)))

    def run(self, targets: Sequence[Floats], memories: Sequence[Floats], causal: bool) -> list[Floats]:
        """States (T, d_model) of targets (T, d_model) that attend to memories (S, d_model), lists of arrays."""
        which, states = CAUSAL_DECODER if causal else DECODER, []
        for i in range(0, len(targets), BATCH):
            part, memory = targets[i:i + BATCH], memories[i:i + BATCH]
            with self._borrow(memory, part) as workspace:
                workspace.encode(MEMORY, memory)
                workspace.decode(which, part)
                states += _split(workspace.result(which, "states"), part)
        return states


def _split(rows: Floats, sequences: Sequence[Floats]) -> list[Floats]:
    return np.split(rows, np.cumsum([len(sequence) for sequence in sequences])[:-1])


class StateModel:
    """What the models of `from_torch` share. batch_first: batches are (B, T, d_model), else (T, B, d_model)."""

    def __init__(self, d_model: int, dtype: DTypeLike, batch_first: bool) -> None:
        self.d_model, self.dtype, self.batch_first = d_model, np.dtype(dtype), batch_first
        self.backend = backends.backend()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(d_model={self.d_model}, dtype={self.dtype}, batch_first={self.batch_first})"

    def _read(self, states: Any, name: str, padding_mask: Any,
              mask_name: str) -> tuple[list[Floats], Callable[[list[Floats]], Floats]]:
        """Sequences as a list of (T, d_model) without their padding, and how to give results the form of `states`."""
        array = _array(states, name)
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}")
        if array.ndim not in (2, 3) or array.shape[-1] != self.d_model:
            layout = "(B, T, d_model)" if self.batch_first else "(T, B, d_model)"
            raise ValueError(f"{name} must be (T, d_model) or {layout} with d_model {self.d_model}, got {array.shape}")
        single = array.ndim == 2
        array = array[None] if single else array if self.batch_first else array.swapaxes(0, 1)
        if 0 in array.shape:
            raise ValueError(f"{name} must hold one position or more, got shape {array.shape}")
        lengths = _lengths(padding_mask, mask_name, array.shape[:2], single)
        sequences = [np.ascontiguousarray(row[:n], self.dtype) for row, n in zip(array, lengths, strict=True)]

        def shaped(results: list[Floats]) -> Floats:
            out = np.zeros(array.shape, self.dtype)
            for row, result in zip(out, results, strict=True):
                row[:len(result)] = result
            return out[0] if single else out if self.batch_first else np.ascontiguousarray(out.swapaxes(0, 1))

        return sequences, shaped


def _array(values: Any, name: str) -> Array:
    """An array of anything that has numbers, PyTorch's tensors on the CPU among it."""
    values = values.detach() if hasattr(values, "detach") else values
    try:
        return as_array(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array in the CPU's memory, got {error}") from None


def _ignored(mask: Any, name: str) -> Bools:
    """A mask as booleans, True where nothing is attended to: PyTorch's are that, or 0 and -inf."""
    mask = _array(mask, name)
    if mask.dtype.kind == "f" and not ((mask == 0) | (mask == -np.inf)).all():
        raise ValueError(f"{name} must be 0 and -inf where it is not boolean: other numbers are not supported")
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name} must be boolean or floating-point, got {mask.dtype}")
    return mask if mask.dtype.kind == "b" else mask != 0


def _lengths(mask: Any, name: str, shape: tuple[int, ...], single: bool) -> list[int]:
    """How many positions of each sequence are no padding, given the mask (B, T) of those that are, or None."""
    if mask is None:
        return [shape[1]] * shape[0]
    mask = _ignored(mask, name)
    mask = mask[None] if single and mask.ndim == 1 else mask
    if mask.shape != shape:
        raise ValueError(f"{name} must have shape {shape[1:] if single else shape}, got {mask.shape}")
    lengths = (~mask).sum(axis=1)
    if not (mask == (np.arange(shape[1]) >= lengths[:, None])).all():
        raise ValueError(f"{name} must be True for the last positions of a sequence only: holes are not supported")
    if not lengths.all():
        raise ValueError(f"{name} leaves nothing of sequence {int(np.argmin(lengths))}")
    return [int(length) for length in lengths]


def _is_causal(mask: Any, hint: bool, name: str, length: int) -> bool:
    """Whether positions see none after them: by PyTorch's mask (T, T), or by the hint that it is that one."""
    if mask is None:
        return bool(hint)
    mask = _ignored(mask, name)
    if mask.shape != (length, length):
        raise ValueError(f"{name} must have shape {(length, length)}, got {mask.shape}")
    if not mask.any() and not hint:
        return False
    if not np.array_equal(mask, np.triu(np.ones((length, length), bool), 1)):
        raise ValueError(f"{name} must be None or the causal mask (generate_square_subsequent_mask): others are not "
                         "supported")
    return True


def _length(states: Any, batch_first: bool) -> int:
    shape = np.shape(states)
    return shape[1 if batch_first and len(shape) == 3 else 0] if shape else 0


class StateEncoder(StateModel):
    """A `torch.nn.TransformerEncoder` on rtfast's kernels (section 3.1)."""

    def __init__(self, stack: EncoderStack, batch_first: bool) -> None:
        super().__init__(stack.config.d_model, stack.config.dtype, batch_first)
        self._stack = stack

    def __call__(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Floats:
        """States of src, in its layout: (B, S, d_model) with batch_first, else (S, B, d_model), or (S, d_model).

        mask: None or the causal one (S, S); is_causal: the same. src_key_padding_mask (B, S): True for padding, at the
        end of a sequence; the states there are zeros. Raises TypeError and ValueError for other masks and shapes.
        """
        causal = _is_causal(mask, is_causal, "mask", _length(src, self.batch_first))
        sources, shaped = self._read(src, "src", src_key_padding_mask, "src_key_padding_mask")
        return shaped(self._stack.run(sources, causal))

    encode = __call__


class StateDecoder(StateModel):
    """A `torch.nn.TransformerDecoder` on rtfast's kernels (section 3.1)."""

    def __init__(self, stack: DecoderStack, batch_first: bool) -> None:
        super().__init__(stack.config.d_model, stack.config.dtype, batch_first)
        self._stack = stack

    def __call__(self, tgt: Any, memory: Any, tgt_mask: Any = None, *, tgt_key_padding_mask: Any = None,
                 memory_key_padding_mask: Any = None, tgt_is_causal: bool = False) -> Floats:
        """States of tgt (B, T, d_model) that attends to memory (B, S, d_model), in the layout of tgt.

        As in PyTorch, a target sees its future unless tgt_mask (T, T) or tgt_is_causal says that it does not. Padding
        masks (B, T) and (B, S): True at the end of a sequence; the states of padding are zeros. Raises TypeError and
        ValueError for other masks and shapes.
        """
        causal = _is_causal(tgt_mask, tgt_is_causal, "tgt_mask", _length(tgt, self.batch_first))
        targets, shaped = self._read(tgt, "tgt", tgt_key_padding_mask, "tgt_key_padding_mask")
        memories, _ = self._read(memory, "memory", memory_key_padding_mask, "memory_key_padding_mask")
        if len(targets) != len(memories) or np.ndim(tgt) != np.ndim(memory):
            raise ValueError(f"tgt and memory must have one batch size, got {np.shape(tgt)} and {np.shape(memory)}")
        return shaped(self._stack.run(targets, memories, causal))

    decode = __call__


class StateTransformer(StateModel):
    """A `torch.nn.Transformer` on rtfast's kernels (section 3.1): `encoder` and `decoder`, one after the other."""

    def __init__(self, encoder: StateEncoder, decoder: StateDecoder) -> None:
        super().__init__(encoder.d_model, encoder.dtype, encoder.batch_first)
        self.encoder, self.decoder = encoder, decoder

    def __call__(self, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None, *,
                 src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None,
                 memory_key_padding_mask: Any = None, src_is_causal: bool = False,
                 tgt_is_causal: bool = False) -> Floats:
        """States of tgt (B, T, d_model) given src (B, S, d_model), in the layout of tgt.

        Masks as of the encoder and the decoder. memory_key_padding_mask: src_key_padding_mask where it is not given
        (in PyTorch the decoder then attends to padding). Errors as theirs.
        """
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        if memory_key_padding_mask is None:
            memory_key_padding_mask = src_key_padding_mask
        return self.decoder(tgt, memory, tgt_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal)

    def encode(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Floats:
        """The encoder's states: see `StateEncoder`."""
        return self.encoder(src, mask, src_key_padding_mask, is_causal)

    def decode(self, tgt: Any, memory: Any, tgt_mask: Any = None, **masks: Any) -> Floats:
        """The decoder's states: see `StateDecoder`."""
        return self.decoder(tgt, memory, tgt_mask, **masks)
