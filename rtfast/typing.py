"""Types that annotations name: arrays as users and backends give them, and what a tokenizer and a backend must have.

Nothing here is needed to run: the other modules import it for type checkers only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    from .packing import PackedWeights
    from .program import Buffer, Op, Program
    from .workspace import Capacity

__all__ = [
    "Array", "ArrayLike", "Backend", "Bools", "Change", "DType", "DTypeLike", "Executor", "Floats", "Ids", "MaybeNone",
    "Packed", "Patterns", "Places", "Screened", "Sentence", "Sentences", "Several", "Shape", "StrPath", "Texts",
    "Tokenizer",
]

#: An array of any type.
Array: TypeAlias = npt.NDArray[Any]
#: float32 or float64.
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
#: Token ids, places, lengths.
Ids: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
DType: TypeAlias = np.dtype[Any]
Shape: TypeAlias = tuple[int, ...]
StrPath: TypeAlias = Union[str, "os.PathLike[str]"]
#: Beside a type: it may be None too, and who asks for it knows when it is not. (Typeshed's convention.)
MaybeNone: TypeAlias = Any
#: A name or pattern of intermediates, or several.
Patterns: TypeAlias = str | Iterable[str]
#: Layers or heads: a number or several.
Places: TypeAlias = int | Iterable[int]
#: One sentence, as text or as ids.
Sentence: TypeAlias = str | Sequence[int]
#: Several texts.
Texts: TypeAlias = list[str] | tuple[str, ...]
#: Several sentences, as lists.
Several: TypeAlias = Texts | Sequence[Sequence[int]] | Sequence[Array]
#: One sentence or several; an array of ids may be either.
Sentences: TypeAlias = Sentence | Several | Array
#: What goes in the place of an intermediate: an array, or a function of a copy of it.
Change: TypeAlias = ArrayLike | Callable[[Any], ArrayLike]


class Tokenizer(Protocol):
    """What a model's tokenizer must have.

    Those that come along also have tokens(ids), the word of each id; where a source has words of its own, source_words
    has another.
    """

    def encode(self, text: str, /) -> Sequence[int]:
        """The ids of a source."""

    def encode_target(self, text: str, /) -> Sequence[int]:
        """The ids of a target, without the one that starts it."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of a target's ids."""


class Packed(Protocol):
    """A weight (d_in, d_out) in the layout that a backend multiplies fastest."""

    @property
    def shape(self) -> tuple[int, int]:
        """(d_in, d_out)."""

    @property
    def dtype(self) -> DType:
        """float32 or float64."""

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""

    def put_columns(self, first: int, block: Array) -> None:
        """Columns `first` and following, given side by side as rows: block (n, d_in)."""

    def put_rows(self, first: int, first_column: int, block: Array) -> None:
        """Rows `first` and following of the columns from first_column on: block (n, columns)."""

    def unpack(self) -> Floats:
        """A new plain array (d_in, d_out) of the same values."""


class Screened(Protocol):
    """A packed weight as bytes too: see csrc/screen.pxi."""

    @property
    def packed(self) -> Packed:
        """The packed weight."""


class Executor(Protocol):
    """Programs on one workspace: see reference/executor.py."""

    def run(self, which: int, sequences: int, source_rows: int, target_rows: int, output_rows: int, longest: int,
            target_keys: int, memory_keys: int) -> None:
        """Run program `which` over the rows that the index arrays describe."""

    def prepare(self, which: int, sequences: int, source_rows: int, target_rows: int, output_rows: int, longest: int,
                target_keys: int, memory_keys: int) -> None:
        """What `run` does before it runs the ops."""

    def run_ops(self, which: int, first: int, end: int) -> None:
        """Run the ops [first, end) of a program that `prepare` was called for."""

    def run_steps(self, which: int, targets: int, position: int, memory_keys: int, ends: Ids, tokens: Ids,
                  values: Floats) -> int:
        """Run program `which` on one token for each target, then on the tokens that it chose; how many steps."""

    def read(self, which: int, buffer: Buffer) -> Array:
        """A copy of a buffer's rows after a run: (rows, width)."""

    def write(self, which: int, buffer: Buffer, first: int, values: Floats) -> None:
        """Put values (rows, width) into a buffer's columns from `first` on."""

    def give(self, which: int, i: int, name: str | None) -> None:
        """Let op i, an attention, go on from its array of that name; None: compute all of it again."""

    def read_extra(self, which: int, op: Op, name: str) -> Floats:
        """What an op wrote for a trace."""


class Backend(Protocol):
    """The functions of a backend, as reference/kernels.py specifies them: a module that `backends.load` gives."""

    @property
    def PackedWeight(self) -> type[Any]:
        """The class of what `pack` returns."""

    def Executor(self, programs: Sequence[Program], weights: PackedWeights, index: Mapping[str, Array],
                 capacity: Capacity, trace: bool) -> Executor:
        """Programs bound to the memory of one workspace."""

    def large_memory(self) -> Any:
        """A place for packed weights to lie side by side, or None."""

    def pack(self, weight: Floats, transposed: bool = False, memory: Any = None) -> Any:
        """A `Packed` copy of a weight."""

    def packed_empty(self, d_in: int, d_out: int, dtype: DType, memory: Any = None) -> Any:
        """A `Packed` whose columns or rows are still to be put."""

    def matmul(self, a: Floats, b: Any, out: Floats) -> None:
        """out = a @ b."""

    def linear(self, x: Floats, weight: Any, bias: Floats | None, activation: int, out: Floats) -> None:
        """out = activation(x @ weight + bias)."""

    def activate(self, x: Floats, activation: int, out: Floats) -> None:
        """out = activation(x)."""

    def softmax(self, x: Floats, out: Floats) -> None:
        """out = softmax of each row."""

    def layer_norm(self, x: Floats, gamma: Floats | None, beta: Floats | None, eps: float, form: int,
                   out: Floats) -> None:
        """out = each row normalised."""

    def add_layer_norm(self, x: Floats, y: Floats, gamma: Floats | None, beta: Floats | None, eps: float, form: int,
                       residual: Floats | None, out: Floats) -> None:
        """out = layer_norm(x + y)."""

    def attention(self, q: Floats, k: Floats, v: Floats, mask: Array | None, causal: bool, scale: float, out: Floats,
                  scores: Floats | None, scaled_scores: Floats | None, weights: Floats | None,
                  article_softmax: bool = False) -> None:
        """out = softmax(scale q k^T) v."""

    def embedding(self, ids: Ids, table: Floats, scale: float, positions: Ids | None, positional: Floats | None,
                  out: Floats) -> None:
        """out = rows of the table, scaled, plus positions."""

    def argmax(self, x: Floats, out: Ids) -> None:
        """out = index of the first maximum of each row."""

    def top_k(self, x: Floats, k: int, log_softmax: bool, values: Floats, ids: Ids) -> None:
        """values, ids = the k largest of each row."""

    def can_screen(self) -> bool:
        """Whether `screen` can make anything."""

    def screen(self, packed: Any, bias: Floats | None) -> Any:
        """A `Screened` of a packed weight, or None."""

    def set_num_threads(self, n: int) -> None:
        """Use up to n threads."""

    def get_num_threads(self) -> int:
        """Threads that a run may use."""

    def softmax_directly(self, x: Any, out: Any) -> Floats | None:
        """`kernels.softmax` of what needs no preparation, else None; the others likewise."""

    def layer_norm_directly(self, x: Any, y: Any, gamma: Any, beta: Any, eps: Any, article: Any,
                            out: Any) -> Floats | None:
        """`kernels.layer_norm`, or with y `kernels.add_layer_norm`."""

    def linear_directly(self, x: Any, weight: Any, bias: Any, activation: int, out: Any) -> Floats | None:
        """`kernels.linear`."""

    def matmul_directly(self, a: Any, b: Any, out: Any) -> Floats | None:
        """`kernels.matmul`."""

    def attention_directly(self, q: Any, k: Any, v: Any, causal: bool, scale: Any) -> Floats | None:
        """`kernels.attention`."""
