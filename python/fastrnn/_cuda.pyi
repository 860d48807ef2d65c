"""The CUDA path: the recurrence of one layer (csrc/cuda/bindings.cpp, layer.h).

Addresses are integers, 0 where there is nothing, in the memory of the stream's device; strides are
in elements. A tensor of all steps is (address, from step to step, from row to row).
"""

from collections.abc import Callable
from collections.abc import Sequence as Sequence_
from enum import Enum
from typing import Any

Addresses = tuple[int, int, int]

architectures: str
compiler: str
device_type: int
"""That of the devices on which tensors lie, as DLPack counts them."""

class Cell(Enum):
    lstm = ...
    gru = ...
    rnn_tanh = ...
    rnn_relu = ...

class Precision(Enum):
    float32 = ...
    tf32 = ...
    float64 = ...
    float16 = ...
    bfloat16 = ...

class CellLayout:
    """What the tensors of a cell look like."""

    gates: int
    slots: int
    input_slot: int
    hidden_slot: int
    gate_of_slot: list[int]

class LayerShape:
    def __init__(self, cell: Cell, H: int, P: int, reverse: bool) -> None: ...

class Stream:
    """Where launches go; ``handle`` is that of torch's stream."""

    def __init__(self, device: int, handle: int) -> None: ...

class Sequence:
    """Which rows take part in which step.

    ``batch_sizes`` are those of a packed batch, else empty. ``lengths`` int64 [B] and ``resets``
    bool lie on the device.
    """

    def __init__(
        self, T: int, B: int, batch_sizes: Sequence_[int], lengths: int, resets: Addresses
    ) -> None: ...

class Forward:
    """The tensors of one direction of a layer; each as layer.h describes it."""

    def __init__(
        self,
        w_hh: int,
        b_ih: int,
        b_hh: int,
        w_hr: int,
        h0: int,
        h: int,
        h_n: int,
        c0: int,
        c: int,
        gates: Addresses,
        extra: Addresses,
        cell: Addresses,
        raw: Addresses,
        y: Addresses,
    ) -> None: ...

class Backward:
    """The same for the gradients."""

    def __init__(
        self,
        w_hh: int,
        w_hr: int,
        h0: int,
        c0: int,
        d_h_n: int,
        d_h: int,
        d_c_n: int,
        d_c: int,
        gates: Addresses,
        extra: Addresses,
        cell: Addresses,
        y: Addresses,
        d_y: Addresses,
        d_cell: Addresses,
        d_pre: Addresses,
        d_projected: Addresses,
        h_prev: Addresses,
    ) -> None: ...

def versions() -> tuple[int, int]:
    """The newest version of CUDA that the driver knows, and that of the kernels; 13000 is 13.0."""

def load_error(device: int) -> str:
    """Why the device loads no kernels; empty if it does."""

def cell_layout(cell: Cell) -> CellLayout: ...
def forward(
    precision: Precision,
    sequence: Sequence,
    shape: LayerShape,
    save: bool,
    directions: Sequence_[Forward],
    stream: Stream,
) -> None:
    """Enqueue a layer; return at once."""

def backward(
    precision: Precision,
    sequence: Sequence,
    shape: LayerShape,
    initial: bool,
    directions: Sequence_[Backward],
    stream: Stream,
) -> None:
    """The same for its gradients; ``initial`` asks for those of the initial states."""

class Tensors:
    """Reads torch's tensors, and makes them; see csrc/python/torch/tensors.h."""

    def __init__(
        self,
        exchange_api: object,
        plain_types: tuple[type, ...],
        make_empty: Callable[..., Any],
        dtypes: tuple[object, ...],
        device_type: int,
        /,
    ) -> None: ...

class Operations:
    """torch's operations around a recurrence; see csrc/cuda/torch/operations.h."""

    def __init__(
        self,
        torch: object,
        multiply: Callable[..., None],
        stream_of: Callable[[int], int],
        uses_tf32: Callable[[], bool],
        dtypes: tuple[object, ...],
        set_grad_enabled: Callable[[bool], None],
        /,
    ) -> None: ...

class Pieces:
    """Where what forward keeps lies: for each direction of each layer, or each layer, the bytes
    that a row takes of all pieces before."""

    def __init__(
        self,
        gates: Sequence_[int],
        extra: Sequence_[int],
        cell: Sequence_[int],
        raw: Sequence_[int],
        outputs: Sequence_[int],
        row_bytes: int,
        multiple: int,
        /,
    ) -> None: ...

class Stack:
    """Layers, and what all calls of them have in common; ``pieces`` for each dtype."""

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
        torch: Operations,
        pieces: Sequence_[Pieces],
        /,
    ) -> None: ...

class Recorded:
    """A call of `Direct` whose gradients will be asked for; as `fastrnn._core.Recorded`."""

    @property
    def element(self) -> int:
        """The place of the call's dtype among those of `Tensors`."""

    @property
    def batch_first(self) -> bool: ...
    @property
    def steps(self) -> int: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def ragged(self) -> tuple[None, None, None, None]: ...
    @property
    def masks(self) -> int: ...
    @property
    def origins(self) -> list[tuple[int, int, object, None] | None]: ...
    def forget_origins(self) -> None: ...
    def backward(
        self,
        saved: tuple[object, ...],
        d_outputs: tuple[object, ...],
        needed: Sequence_[bool],
        /,
    ) -> tuple[Any, ...] | None: ...

class Direct:
    """A stack or a cell, called with torch's own tensors; see csrc/cuda/torch/direct.h."""

    def __init__(
        self, stack: Stack, one_step: bool, tensors: Tensors, record: Callable[..., Any], /
    ) -> None: ...
    def call(
        self,
        x: object,
        hx: object,
        weights: Sequence_[object],
        batch_first: bool,
        grad_enabled: bool,
        room: int,
        /,
    ) -> Any:
        """What torch's layer or cell would return, or None: the long way then.

        ``room``: bytes that the input's share of a direction may take in inference.
        """
