"""Who computes a plain call on a GPU: the kernels, or torch's layer, on cuDNN.

Both can, and `TABLE` says of each kind of call who is thought to be faster. `set_cuda_policy`
overrules it. Nothing here asks a device or knows torch.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from ..setting import Setting

__all__ = ["CHOICES", "PRECISIONS", "TABLE", "VARIABLE", "Call", "Row", "chosen", "row_of"]
__all__ += ["set_cuda_policy"]

CHOICES = ("fastest", "kernels", "torch")
VARIABLE = "FASTRNN_CUDA_POLICY"
PRECISIONS = ("float32", "tf32", "float64", "float16", "bfloat16")
"""Of products: "tf32" is float32 where torch lets its recurrent layers round it."""

_SETTING = Setting(VARIABLE, CHOICES)


def set_cuda_policy(to: str) -> None:
    """Say who computes calls on a GPU that both torch's layers and the CUDA kernels could.

    That is layers and cells with torch's own options and arguments, where the CUDA part is built
    and can run. The environment variable ``FASTRNN_CUDA_POLICY`` says it for a whole process, and
    ``python -m fastrnn explain LSTM T=100 B=16 I=512 H=512 device=cuda`` says what becomes of a
    call and why.

    Parameters
    ----------
    to : {"fastest", "kernels", "torch"}
        "fastest", the default: whoever a table of estimates says. "kernels": fastrnn's, wherever
        they can. "torch": the class of ``torch.nn`` that a layer derives from. What compilers and
        ``torch.func`` see as one operation, what torch has not (``lengths``, ``resets``,
        ``return_states``) and the functions of `fastrnn.functional` go to the kernels whatever is
        said here.

    Raises
    ------
    ValueError
        ``to`` is none of these.
    """
    _SETTING.choose(to)


def chosen() -> str:
    """Which of the `CHOICES`; ValueError if the environment variable has none of them."""
    return _SETTING.value()


class Call(NamedTuple):
    """What the table asks of a call."""

    capability: int
    """Of the GPU, ten times: 90 of one of 9.0."""
    precision: str
    """One of `PRECISIONS`."""
    cell: str
    """As in a `Spec`: "lstm", "gru", "rnn_tanh", "rnn_relu"."""
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    packed: bool = False
    directions: int = 1
    layers: int = 1
    projected: bool = False
    training: bool = False
    """Whether gradients may be wanted."""

    @property
    def multiplications(self) -> int:
        """Of a step's recurrent product, for one gate and direction."""
        return self.B * self.H * self.H


class Row(NamedTuple):
    """Who computes the calls that fit."""

    who: str
    """"torch" or "kernels"."""
    why: str
    """Microseconds are those of a step of one layer."""
    where: Mapping[str, Container[object]]
    """The values that a call has to have, by the names of `Call`; of others any will do."""

    def fits(self, call: Call) -> bool:
        return all(getattr(call, name) in values for name, values in self.where.items())


_GATED, _PLAIN = ("lstm", "gru"), ("rnn_tanh", "rnn_relu")
_SMALL = {"precision": ("float32", "tf32", "float16", "bfloat16"), "packed": (False,)}
_SMALL |= {"projected": (False,)}
_SMALL_WHY = "cuDNN keeps the weights of so few units on the chip: 1 to 1.5 us, the kernels 3"
_PERSISTENT_WHY = "cuDNN keeps these float16 weights on the chip: 2.5 to 3.5 us, as the kernels"


def _small(cells: tuple[str, ...], training: bool, units: int) -> Row:
    """torch's choice of cuDNN's algorithm for small layers, whose bounds are in its RNN.cpp."""
    own = {"cell": cells, "training": (training,), "H": range(1, units + 1)}
    return Row("torch", _SMALL_WHY, {**_SMALL, **own})


TABLE = (
    Row("torch", "so few steps take less time than a call's way to the kernels", {"T": range(32)}),
    *(_small(_GATED, training, 128 if training else 192) for training in (False, True)),
    *(_small(_PLAIN, training, 256 if training else 384) for training in (False, True)),
    Row(
        "torch",
        _PERSISTENT_WHY,
        {
            "precision": ("float16",),
            "cell": ("lstm",),
            "B": range(8, 129, 8),
            "I": range(128, 2**31, 128),
            "H": range(128, 1025, 128),
            "packed": (False,),
            "directions": (1,),
            "layers": (1,),
            "projected": (False,),
        },
    ),
    Row(
        "kernels",
        "cuDNN's standard algorithm takes 8 to 16 us, the kernels 3 to 10",
        {
            "capability": (90,),
            "precision": ("float32", "tf32", "float16", "bfloat16"),
            "H": range(1, 2049),
            "multiplications": range(2**26 + 1),
        },
    ),
    Row(
        "torch",
        "cuDNN's large products win: 12 us, the kernels 36 at B=256 and H=1024",
        {"capability": (90,), "multiplications": range(2**26 + 1, 2**62)},
    ),
    Row("torch", "no estimate says that the kernels are faster there", {}),
)
"""The first row that fits a call decides.

All of it is **estimated**, from cuDNN's algorithms and arithmetic, for an H100 and the LSTM's
forward pass; no GPU has run it. Where the two are thought to be even torch computes.
"""


def row_of(call: Call) -> Row:
    """The row that decides, whatever `set_cuda_policy` says."""
    return next(row for row in TABLE if row.fits(call))
