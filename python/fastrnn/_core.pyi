"""The compiled engine. It knows no torch: addresses are ints, 0 stands for absent.

Sizes and strides are in elements. Letters: T steps, B rows at the widest step, I, H and P features
of the input, the hidden state and the projection (0 without one).
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

_Instruction = tuple[str, int, int, int, int]
_Stage = tuple[int, int, Sequence[_Instruction]]

class Cell(Enum):
    lstm = ...
    gru = ...
    rnn_tanh = ...
    rnn_relu = ...
    program = ...

class DType(Enum):
    float32 = ...
    float64 = ...

class Program:
    """A cell as code for the interpreter, whose words are in ``csrc/engine/kernels/code.h``."""

    def __init__(
        self,
        *,
        gates: int,
        states: int,
        held: int,
        slots: int,
        gate_of_slot: Sequence[int],
        input_slots: tuple[int, int],
        products: Sequence[tuple[int, int]],
        vectors: int,
        extras: Sequence[tuple[int, bool]],
        heads: int,
        recurrent: bool,
        initial: Sequence[float],
        constants: Sequence[float],
        kept: int,
        saved: int,
        temps: int,
        sums: tuple[int, int],
        forward: Sequence[_Stage],
        forward_saving: Sequence[_Stage],
        backward: Sequence[_Stage],
    ) -> None:
        """Sizes, slots as (first, number), and the stages of the passes.

        ``input_slots`` and each of ``products``, the first that of the hidden state, say which
        slots a product adds to. ``extras``: where each per-step input stands behind the features of
        x, and whether every unit has one of its own. ``initial``: what each state goes back to at a
        reset. ``kept``, ``saved``, ``temps``, ``sums`` (forward, backward): numbers of what passes
        from stage to stage, to backward, from stage to stage backward, and of sums over units. An
        instruction "each_unit" ends those of a stage that compute a number for each row.

        Raises ValueError where a stage's code would reach beyond what there is.
        """

class Plan:
    """The geometry of one call: sizes, active rows, how much memory it needs, threads.

    A plan belongs to one instruction set.
    """

    def __init__(
        self,
        *,
        cell: Cell,
        dtype: DType,
        T: int,
        B: int,
        I: int,
        H: int,
        P: int = 0,
        layers: int = 1,
        directions: int = 1,
        bias: bool = True,
        reverse: bool = False,
        save: bool = False,
        dropout: bool = False,
        states: bool = False,
        threads: int,
        packed: bool = False,
        batch_sizes: int = 0,
        row_index: int = 0,
        resets: int = 0,
        isa: str,
        program: Program | None = None,
        format: Format = ...,
    ) -> None:
        """``isa``: one of `isa_built`; it computes only where that is among `isa_available`.

        ``batch_sizes``: [T] int64, active rows at each step, not increasing; 0 for all at all.

        ``row_index``: [B] int64, the batch entry that each row is; 0 for its own number.
        ``packed``: x, y and their gradients hold the active rows alone, in the order of the rows;
        else all entries at all steps, of which those that are not active are never read, and come
        out as zeros.
        ``reverse``: a single direction runs backwards.
        ``resets``: [T, B] bool by batch entry, where no state passes from the step before; 0 for
        none. Not copied: it has to live as long as the plan.
        ``format``: of the panels that forward packs its weights into. ValueError if the
        instruction set has none of that name in the dtype.
        ``states``: `forward` writes those after every step too.
        ``program``: the cell, in the place of ``cell``. Its states after the first
        lie side by side in c0, c_n, c_all and their gradients, and its per-step inputs behind the
        ``I`` features of x.
        ``threads``: offered; a call uses no more than it is worth.
        """

    @property
    def dtype(self) -> DType: ...
    @property
    def saved_bytes(self) -> int:
        """What forward keeps for backward; 0 without ``save``."""

    def explain(self) -> dict[str, Any]:
        """What is decided for a team of all its threads; see csrc/engine/schedule/decide.h.

        ``threads`` that the call is worth, ``cycles`` of forward on one, ``weights_once``,
        ``weights_in_place``, sizes in bytes, ``panels``, and a list of layers each for ``forward``
        and ``backward``.
        """

    def forward(
        self,
        *,
        x: tuple[int, int, int],
        y: tuple[int, int, int],
        h0: int,
        c0: int,
        h_n: int,
        c_n: int,
        h_all: int,
        c_all: int,
        weights: Sequence[int],
        masks: Sequence[int],
        saved: int,
    ) -> None:
        """Strided tensors are (address, stride of steps, stride of rows); states contiguous.

        ``h_all`` [L*D, T, B, P or H] and ``c_all`` [L*D, T, B, H]: states after every step, zeros
        where a row is not active; 0 if the plan does not want them.
        """

    def backward(
        self,
        *,
        x: tuple[int, int, int],
        h0: int,
        c0: int,
        weights: Sequence[int],
        masks: Sequence[int],
        d_y: tuple[int, int, int],
        d_h_n: int,
        d_c_n: int,
        d_h_all: int,
        d_c_all: int,
        d_x: tuple[int, int, int],
        d_h0: int,
        d_c0: int,
        d_weights: Sequence[int],
        saved: int,
    ) -> None:
        """A gradient that comes in as 0 is zero; one that goes out as 0 is not computed."""

class Tensors:
    """Reads torch's tensors, and makes them; see csrc/python/torch/tensors.h."""

    def __init__(
        self,
        exchange_api: object,
        plain_types: tuple[type, ...],
        make_empty: Callable[..., Any],
        dtypes: tuple[object, object],
        /,
    ) -> None:
        """``exchange_api``: torch's ``__dlpack_c_exchange_api__``; ImportError if it is another.

        The others are in csrc/python/torch/tensors.h.
        """

    def centred(self, matrices: Sequence[Any], groups: int, threads: int, /) -> list[Any] | None:
        """Matrices less the means over each group of rows; csrc/python/torch/centred.h says when.

        The gradients are those of the same function.
        """

    def drawn(self, words: Any, to: Any, limit: int, value: float, threads: int, /) -> bool:
        """Fills a mask by random words, if it is one for the engine; csrc/python/torch/drawn.h."""

class Sums:
    """A vector put together from sums of pieces of others; csrc/python/torch/sums.h."""

    def __init__(
        self, pieces: Sequence[tuple[Sequence[int], int, int]], sizes: Sequence[int], /
    ) -> None:
        """``pieces``: the places of vectors, of these ``sizes``, whose elements begin .. end are
        added up.
        """

    def of(self, tensors: Tensors, vectors: Sequence[Any], /) -> Any | None:
        """The vector, or None if one of these is not as it has to be."""

class Recorded:
    """A call of `Direct` whose gradients will be asked for; see csrc/python/torch/recorded.h."""

    @property
    def plan(self) -> Plan: ...
    @property
    def batch_first(self) -> bool: ...
    @property
    def steps(self) -> int:
        """T; 1 for a cell."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of x."""

    @property
    def ragged(
        self,
    ) -> tuple[list[int] | None, list[int] | None, list[int] | None, object]:
        """batch_sizes and sorted_indices of a packed batch, lengths, resets; None for no such."""

    @property
    def masks(self) -> int:
        """How many dropout masks are saved behind the weights."""

    @property
    def origins(self) -> list[tuple[int, int, object, None] | None]:
        """Where forward has found x, h_0, c_0 and the weights: `_autograd.saved.Origin`."""

    def forget_origins(self) -> None:
        """What comes back for backward will lie elsewhere."""

    def backward(
        self,
        saved: tuple[object, ...],
        d_outputs: tuple[object, ...],
        needed: Sequence[bool],
        /,
    ) -> Any:
        """Return the needed gradients of x, h_0, c_0 and the weights, or None: too unusual.

        ``saved``: these, the dropout masks, and what forward kept; None for what is not read.
        """

class Format(Enum):
    float32 = ...
    bfloat16 = ...
    int8 = ...
    bfloat16_products = ...

class Extension:
    """csrc/engine/kernels/extensions.h."""

    name: str
    isa: str
    format: Format
    available: bool
    proven: bool
    on: bool

class Packed:
    """The weights of all layers, packed once for one instruction set; csrc/engine/forward/freeze.h.

    Those that it was made of may be gone.
    """

    def __init__(
        self,
        *,
        cell: Cell,
        dtype: DType,
        I: int,
        H: int,
        P: int,
        layers: int,
        directions: int,
        bias: bool,
        reverse: bool,
        program: Program | None,
        format: Format,
        weights: Sequence[int],
        isa: str,
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    def plan(
        self,
        *,
        T: int,
        B: int,
        states: bool,
        threads: int,
        packed: bool,
        batch_sizes: int,
        row_index: int,
        resets: int,
    ) -> Plan:
        """That of a call, which has no weights; the parameters are those of `Plan`."""

class Direct:
    """One layer or cell, called with torch's own tensors; see csrc/python/torch/direct.h."""

    def __init__(
        self,
        cell: Cell,
        I: int,
        H: int,
        P: int,
        layers: int,
        directions: int,
        bias: bool,
        reverse: bool,
        one_step: bool,
        tensors: Tensors,
        record: Callable[..., Any],
        keep: Callable[[int, Any], Any],
        draw: Callable[[tuple[int, ...], Any], Any] | None,
        program: Program | None,
        packed: Packed | None,
        format: Format,
        /,
    ) -> None:
        """``program``: the cell, in the place of ``cell``.

        ``format``: of the panels that calls of several steps pack for themselves.
        ``packed``: the weights of calls that bring none, while their instruction set is active.
        ``record``: makes outputs part of torch's graph; csrc/python/torch/direct.h says how.
        ``keep``: makes a tensor of so many elements of torch's dtype for what forward keeps.
        ``draw``: dropout masks of a size for a call with x, None where there are none.
        """

    def call(
        self,
        x: object,
        hx: object,
        weights: Sequence[object],
        batch_first: bool,
        grad_enabled: bool,
        threads: int,
        bfloat16: bool,
        /,
    ) -> Any:
        """Return what the layer or cell returns, or None if this call is too unusual.

        ``bfloat16``: the matrices among the weights are, in a call of float32 without gradients.
        """

    def call_ragged(
        self,
        x: object,
        hx: object,
        weights: Sequence[object],
        batch_first: bool,
        grad_enabled: bool,
        threads: int,
        batch_sizes: object,
        sorted_indices: object,
        lengths: object,
        resets: object,
        /,
    ) -> Any:
        """The same of a ragged batch; each of the last four None for what is not there.

        ``x``: of a packed batch its data, as what is returned. ``resets``: [T, B].
        """

def extensions() -> list[Extension]: ...
def isa_built() -> list[str]: ...
def isa_available() -> list[str]: ...
def isa_active() -> str: ...
def isa_force(name: str | None, /) -> None: ...
def build_info() -> dict[str, Any]:
    """``compiler``, and the path of torch's ``openmp``, None if there is none to be shared."""

def processors() -> dict[str, Any]:
    """``allowed`` to run on, ``quota`` of the control group (0: none), and thus ``usable``."""

def signal_nanoseconds(threads: int, /) -> float:
    """What a signal from thread to thread takes; measured now if that was not done lately."""

WORTH_LEAVING: int

class Scratch:
    """Memory that calls take from one another; a buffer of that many bytes, or more."""

    def __init__(self, bytes: int, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def empty_cache() -> None: ...

hooks: object
"""A capsule: what the tests' module needs of this one; csrc/python/hooks.h."""
