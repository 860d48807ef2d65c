"""Cells that are steps of a differential equation, and cells whose states are built to last."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .._layers.cell import Cell
from .initial import Parameters, fill, hidden_size, rows

__all__ = [
    "LEM",
    "LMU",
    "SCRN",
    "Antisymmetric",
    "AntisymmetricRNN",
    "CoRNN",
    "FastGRNN",
    "FastRNN",
    "GatedAntisymmetricRNN",
]


class FastRNN(Cell):
    """A residual connection with two learned numbers. Kusupati et al. 2018, arXiv 1901.02358.

    ::

        n = tanh(W x + U h' + b)
        h = sigmoid(alpha) n + sigmoid(beta) h'

    alpha begins as -3 and beta as 3.
    """

    gates = "n"
    vectors = {"alpha": "scalar", "beta": "scalar"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        n = torch.tanh(x.n + u.n)
        return {"h": torch.sigmoid(p.alpha) * n + torch.sigmoid(p.beta) * s.h}

    def reset_parameters(self, parameters: Parameters) -> None:
        nn.init.constant_(parameters["alpha"], -3.0)
        nn.init.constant_(parameters["beta"], 3.0)


class FastGRNN(Cell):
    """A gated unit whose gate and candidate share weights. Kusupati et al. 2018, 1901.02358.

    ::

        z = sigmoid(W x + U h' + b_z)                      n = tanh(W x + U h' + b_n)
        h = (sigmoid(zeta) (1 - z) + sigmoid(nu)) n + z h'

    b_z and b_n begin as 1, zeta as 1, nu as -4. ``bias_ih`` and ``bias_hh``, which add to both,
    begin as 0; with ``bias=False`` there are none, as in the paper. Its low-rank weights
    W = W_1 W_2 are not expressible.
    """

    gates = "w"
    vectors = {"b_z": "unit", "b_n": "unit", "zeta": "scalar", "nu": "scalar"}

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        a = x.w + u.w
        z, n = torch.sigmoid(a + p.b_z), torch.tanh(a + p.b_n)
        return {"h": (torch.sigmoid(p.zeta) * (1 - z) + torch.sigmoid(p.nu)) * n + z * s.h}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters)
        for name, value in {"b_z": 1.0, "b_n": 1.0, "zeta": 1.0, "nu": -4.0}.items():
            nn.init.constant_(parameters[name], value)


class Antisymmetric(nn.Module):
    """A parametrization that keeps each gate's recurrent weights antisymmetric, U - U^T.

    ::

        torch.nn.utils.parametrize.register_parametrization(rnn, "weight_hh_l0", Antisymmetric())
    """

    def forward(self, weight: Tensor) -> Tensor:
        """weight, and what it becomes: [G * H, H]."""
        upper = self.right_inverse(weight)
        return upper - self._blocks(upper).transpose(1, 2).reshape_as(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What stands above the diagonal of each gate's weights."""
        return self._blocks(weight).triu(1).reshape_as(weight)

    def _blocks(self, weight: Tensor) -> Tensor:
        return weight.reshape(-1, weight.shape[1], weight.shape[1])


def _antisymmetric_weights(cell: Any, parameters: Parameters, spread: float) -> None:
    fill(cell, parameters)
    weight = parameters["weight_hh"]
    weight.normal_(0, spread / math.sqrt(weight.shape[1]))
    weight.copy_(Antisymmetric()(weight))


class AntisymmetricRNN(Cell):
    """A stable differential equation. Chang et al. 2019, arXiv 1902.09689.

    ::

        h = h' + eps tanh((U - U^T - gamma 1) h' + W x + b)

    A cell multiplies with its weights as they are. They begin antisymmetric; `Antisymmetric` keeps
    them so in training.

    Parameters
    ----------
    eps, gamma : float
        The step and the diffusion of the equation.
    spread : float
        The standard deviation of U is at first spread / sqrt(H).
    """

    gates = "n"

    def __init__(self, eps: float = 0.1, gamma: float = 0.1, spread: float = 1.0) -> None:
        self.eps, self.gamma, self.spread = eps, gamma, spread

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": s.h + self.eps * torch.tanh(x.n + u.n - self.gamma * s.h)}

    def reset_parameters(self, parameters: Parameters) -> None:
        _antisymmetric_weights(self, parameters, self.spread)


class GatedAntisymmetricRNN(AntisymmetricRNN):
    """`AntisymmetricRNN` with a gate of the same weights. Chang et al. 2019, arXiv 1902.09689.

    ::

        a = (U - U^T - gamma 1) h'
        z = sigmoid(a + W_z x + b_z)
        h = h' + eps z tanh(a + W_n x + b_n)

    U stands in the rows of gate n; those of gate z are not used.
    """

    gates = "n z"

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        a = u.n - self.gamma * s.h
        z = torch.sigmoid(a + x.z)
        return {"h": s.h + self.eps * z * torch.tanh(a + x.n)}


class CoRNN(Cell):
    """Coupled oscillators. Rusch & Mishra 2020, arXiv 2010.00951.

    ::

        z = z' + dt (tanh(U_y y' + U_z z' + W x + b) - gamma y' - eps z')
        y = y' + dt z

    Parameters
    ----------
    dt, gamma, eps : float
        The step, the frequency and the damping, which the paper looks for anew for each task.
    """

    gates = "y z"
    states = "y z"
    late = "z"

    def __init__(self, dt: float = 0.05, gamma: float = 1.0, eps: float = 1.0) -> None:
        self.dt, self.gamma, self.eps = dt, gamma, eps

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return s.z

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        force = torch.tanh(x.y + u.y + u.z)
        z = s.z + self.dt * (force - self.gamma * s.y - self.eps * s.z)
        return {"y": s.y + self.dt * z, "z": z}


class LEM(Cell):
    """Long expressive memory: two states at learned paces. Rusch et al. 2021, arXiv 2110.04744.

    ::

        a = dt sigmoid(W_a x + U_a y' + b_a)               b = dt sigmoid(W_b x + U_b y' + b_b)
        z = (1 - a) z' + a tanh(W_z x + U_z y' + b_z)
        y = (1 - b) y' + b tanh(W_y x + U_y z + b_y)
    """

    gates = "a b z y"
    states = "y z"
    late = "y"

    def __init__(self, dt: float = 1.0) -> None:
        self.dt = dt

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        a = self.dt * torch.sigmoid(x.a + u.a)
        return (1 - a) * s.z + a * torch.tanh(x.z + u.z)

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        b = self.dt * torch.sigmoid(x.b + u.b)
        return {
            "y": (1 - b) * s.y + b * torch.tanh(x.y + u.y),
            "z": self.operand(x, u, s, p),
        }


class SCRN(Cell):
    """Structurally constrained network: slow units beside. Mikolov et al. 2014, arXiv 1412.7753.

    ::

        c = (1 - alpha) W_c x + alpha c'
        h = sigmoid(U_c c + W_h x + U_h h')

    The paper's slow units may be fewer than the others; here they are as many. They also go up
    beside h, which `return_states` gives. W_c x and h have biases here, which begin as 0.
    """

    gates = "h c"
    states = "h c"
    late = "c"

    def __init__(self, alpha: float = 0.95) -> None:
        self.alpha = alpha

    def operand(self, x: Any, u: Any, s: Any, p: Any) -> Any:
        return (1 - self.alpha) * x.c + self.alpha * s.c

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        c = self.operand(x, u, s, p)
        return {"h": torch.sigmoid(u.c + x.h + u.h), "c": c}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters)


class LMU(Cell):
    """Legendre memory unit. Voelker, Kajic & Eliasmith 2019, NeurIPS 32.

    ::

        v = E_x x + E_h h' + E_m m'
        m = A m' + B v
        h = tanh(W_x x + W_h h' + W_m m)

    A and B begin as those of the paper: the Legendre polynomials of a window of `theta` steps,
    discretised by zero-order hold. What differs: the memory has as many units as h; v is a number
    for each unit, and not one for all; A and B are learned. Biases begin as 0. E_x and E_h begin in
    U(-sqrt(3 / fan_in), sqrt(3 / fan_in)), E_m as 0, W as N(0, 2 / (fan_in + fan_out)).
    """

    gates = "v h e a m"
    states = "h m"
    late = ["e a", "m"]
    vectors = {"b": "unit"}

    def __init__(self, theta: float = 100.0) -> None:
        self.theta = theta

    def operand(self, x: Any, u: Any, s: Any, p: Any, stage: int) -> Any:
        return s.m if stage == 0 else u.a + p.b * (x.v + u.v + u.e)

    def step(self, x: Any, u: Any, s: Any, p: Any) -> dict[str, Any]:
        return {"h": torch.tanh(x.h + u.h + u.m), "m": self.operand(x, u, s, p, 1)}

    def reset_parameters(self, parameters: Parameters) -> None:
        fill(self, parameters)
        a, b = _legendre(hidden_size(self, parameters), self.theta)
        parameters["b"].copy_(b)
        for name, gate in [
            *(("weight_ih", "v"), ("weight_hh", "v"), ("weight_hh", "e"), ("weight_hh", "a")),
            *(("weight_ih", "h"), ("weight_hh", "h"), ("weight_hh", "m")),
        ]:
            weight = rows(self, parameters, name, gate)
            assert weight is not None
            if gate == "v":
                bound = math.sqrt(3 / weight.shape[1])
                weight.uniform_(-bound, bound)
            elif gate == "e":
                weight.zero_()
            elif gate == "a":
                weight.copy_(a)
            else:
                nn.init.xavier_normal_(weight)


def _legendre(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """A [order, order] and B [order] of the memory, for steps of 1."""
    n = torch.arange(order, dtype=torch.float64)
    row, column = n[:, None], n[None, :]
    sign = torch.where(row < column, -torch.ones(()), (-1.0) ** (row - column + 1))
    a = (2 * row + 1) * sign / theta
    b = (2 * n + 1) * (-1.0) ** n / theta
    # exp of [[A, B], [0, 0]] holds both for an input that is constant over the step.
    both = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    both[:order, :order], both[:order, order] = a, b
    held = torch.matrix_exp(both)
    return held[:order, :order], held[:order, order]
