"""The base class of cells that somebody writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["Cell"]


class Cell:
    """A recurrent cell as ordinary torch code, for `fastrnn.Recurrent` and `fastrnn.RecurrentCell`.

    A cell declares its gates and has a method ``step``. That is called once, on symbols, to make
    the program that the engine runs, forward and backward; on tensors it is plain torch::

        class MGU(fastrnn.Cell):
            '''Minimal gated unit, Zhou et al. 2016.'''

            gates = "f n"
            late = "n"

            def operand(self, x, u, s, p):
                return torch.sigmoid(x.f + u.f) * s.h

            def step(self, x, u, s, p):
                f, n = torch.sigmoid(x.f + u.f), torch.tanh(x.n + u.n)
                return {"h": (1 - f) * s.h + f * n}

    With W and b the rows of ``weight_ih`` and ``bias_ih`` that belong to a gate g, and U and b'
    those of ``weight_hh`` and ``bias_hh``, the methods get values [B, H] by name::

        x.g = W_g @ input + b_g
        u.g = U_g @ (the first state, or for a late gate what operand() returns) + b'_g
        s.name    a state before the step
        p.name    a vector, or an input of the step; p.name.g of a vector with numbers for each gate

    Methods
    -------
    step(x, u, s, p)
        Required. A dict of the states after the step.
    operand(x, u, s, p), operand(x, u, s, p, stage)
        Required with ``late``: what the recurrent matrix of late gates is multiplied with; ``u``
        has the gates of earlier products. The second form belongs to a list of stages, from 0 on.
    output(x, u, s, p, new)
        What goes up to the next layer and out, [B, H]; without it the first state. ``new`` has what
        ``step`` returned, as attributes.
    initial(s)
        A dict of the states that do not start as zeros, each a constant, as
        ``torch.ones_like(s.n)`` is. A reset goes back to them.

    Constructor arguments, as the ``dt`` of ``CoRNN(dt=0.1)``, are numbers that ``__init__`` keeps
    as attributes. Operations on values are those of elementwise arithmetic: others raise a
    TypeError that names what is allowed.
    """

    gates: str
    """Names, apart by spaces: blocks of H rows of the weights, in this order."""
    states: str = "h"
    """Names; the first is what meets the recurrent weights and what goes up."""
    late: str | Sequence[str] = ""
    """Gates whose recurrent product waits for ``operand``; a list for one such product each."""
    vectors: Mapping[str, str] = {}
    """Learned numbers by name: "unit" [H], "gate" [G * H], or "scalar" [1]."""
    inputs: str = ""
    """Names of what the caller gives for every step, besides the input."""
    held: str = ""
    """Names of states, the last ones, that ``step`` does not return: they stay what a call was
    given, whatever is reset."""
    recurrent: str | int = "dense"
    """"dense", "none", a number of blocks on the diagonal, or "heads": as many as ``num_heads``."""

    def reset_parameters(self, parameters: dict[str, Tensor]) -> None:
        """Set what is to start otherwise than drawn from U(-1 / sqrt(H), 1 / sqrt(H)), in place.

        Called for each layer and direction, without gradients, when the parameters have been drawn.

        Parameters
        ----------
        parameters : dict of str to Tensor
            "weight_ih", "weight_hh", "bias_ih" and "bias_hh", as far as there are, and the vectors.
        """

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


Cell.__module__ = "fastrnn"
