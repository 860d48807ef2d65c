"""Freeze the recurrent layers of a model, and thaw them."""

from __future__ import annotations

import copy
import warnings
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from .._call.checks import check_module
from .._call.number_formats import MOST_OF_INT8, check_format, restored, rounded, scale_name
from .._call.precision import REDUCED
from ..regularised import describe_regularised
from .counterparts import turn
from .frozen import FROZEN_OF, NOT_FINITE, OWN_STATE, Frozen, infinite
from .of_program import OfProgram

__all__ = ["freeze", "thaw"]

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_RECURRENT = (torch.nn.RNNBase, torch.nn.RNNCellBase, OfProgram)


def freeze(model: ModuleT, weights: str = "float32") -> ModuleT:
    """Return a copy of a model for inference, whose recurrent layers pack their weights once.

    A frozen layer is called as it was before, with all of its options, computes in float32, and
    takes float32, bfloat16 and float16. What a row returns depends on that row alone, bit for bit.

    Parameters
    ----------
    model : torch.nn.Module
        May itself be a layer. Frozen are the layers and cells of ``torch.nn`` and of fastrnn, those
        of programs included, on the CPU, of any of these dtypes; parametrizations are computed for
        the last time. It is left as it is.
    weights : str
        What the matrices are kept as; biases and other vectors stay float32.

        - "float32": results are those of the layer, bit for bit; with a normalised input's share
          (`fastrnn.regularised`) to rounding.
        - "bfloat16": rounded to nearest; sums and states are float32.
        - "int8": with a float32 scale for each row, whose largest magnitude is 127 scales. At every
          step the input and the state of a row are rounded to 127 scales as well. Sums are exact,
          states float32.

    Returns
    -------
    torch.nn.Module
        The copy, in evaluation mode. Of a frozen layer ``train()``, gradients and setting a weight
        are errors. ``state_dict`` has the format's numbers under the names of the weights, and
        ``<name>_scale`` of int8; pickles and copies keep them.

    Raises
    ------
    ValueError
        There is no format ``weights``, or a layer has an infinity or NaN among its weights, or a
        number that the format rounds to one, is float64, not on the CPU, has no units or features,
        is frozen in another format, has a weight that a hook makes, as
        ``torch.nn.utils.weight_norm`` does, or has the option ``weight_dropout_in_eval``
        (`fastrnn.regularised`).
    TypeError
        ``model`` is no module.

    Warns
    -----
    UserWarning
        Recurrent layers of derived classes were left as they are.
    """
    check_module(model)
    check_format(weights)
    _check_hooks(model)  # torch cannot copy what hooks have made with gradients
    made = copy.deepcopy(model)
    made.eval()  # not every module returns itself
    passed_over = []
    for name, module in list(made.named_modules()):
        target = FROZEN_OF.get(parametrize.type_before_parametrizations(module))
        if target is not None:
            _freeze(name or "the model itself", module, target, weights)
        elif isinstance(module, Frozen):
            if module.number_format != weights:
                raise ValueError(
                    f"{name or 'the model itself'}: frozen with weights={module.number_format!r} "
                    "already: freeze the model that fastrnn.thaw returns"
                )
        elif isinstance(module, _RECURRENT):
            passed_over.append(f"{name or 'the model itself'} ({type(module).__qualname__})")
    if passed_over:
        warnings.warn(
            f"recurrent layers of derived classes are not frozen: {', '.join(passed_over)}",
            stacklevel=2,
        )
    return made


def thaw(model: ModuleT) -> ModuleT:
    """Return a copy of a model whose frozen layers are what they were, with the rounded weights.

    Parameters
    ----------
    model : torch.nn.Module
        What `freeze` has returned; may itself be a layer. It is left as it is.

    Returns
    -------
    torch.nn.Module
        The copy, in evaluation mode. Its layers have their classes and dtypes from before, and
        parameters again, of the values that the format kept, which require gradients if they did.

    Raises
    ------
    TypeError
        ``model`` is no module.
    """
    check_module(model)
    made = copy.deepcopy(model)
    for module in list(made.modules()):
        if isinstance(module, Frozen):
            _thaw(module)
    return made


def _check_hooks(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        target = FROZEN_OF.get(parametrize.type_before_parametrizations(module))
        if target is None:
            continue
        known = {*module._parameters, *module._modules.get("parametrizations", ())}
        missing = set(target._names(module)) - known
        if missing:
            raise ValueError(
                f"{name or 'the model itself'}: {min(missing)} is no parameter, but made by a "
                "hook: remove that before"
            )


def _freeze(name: str, module: Any, target: type[Frozen], weights: str) -> None:
    parametrized = list(module._modules.get("parametrizations", ()))
    values = {key: getattr(module, key).detach() for key in parametrized}
    values |= {key: p.detach() for key, p in module._parameters.items() if p is not None}
    fixed = tuple(
        key for key, p in module._parameters.items() if p is not None and not p.requires_grad
    )
    before = parametrize.type_before_parametrizations(module)
    module._modules.pop("parametrizations", None)
    turn(module, target)
    names = set(module._names())
    _check(name, module, values, weights)
    dtype = next(iter(values.values())).dtype
    for key, value in values.items():
        module._parameters.pop(key, None)
        single = value.float()
        kept = rounded(key, single, weights) if key in names else {key: single}
        if infinite({key: restored(key, kept)}):
            raise ValueError(
                f"{name}: {key}: expected numbers that {weights} can have, got one so large that "
                "it is rounded to infinity"
            )
        for part, tensor in kept.items():
            module.register_buffer(part, tensor.clone())
    module.number_format = weights
    module._thawed = before, dtype, tuple(values), fixed


def _check(name: str, module: Any, values: dict[str, Tensor], weights: str) -> None:
    options = getattr(module, "_fastrnn_regularised", None)
    if options is not None and options.drops_weights(training=False):
        listed = ", ".join(describe_regularised(options))
        raise ValueError(
            f"{name}: expected a layer whose weights are the same at every call in eval, got "
            f"{listed}: weight_dropout_in_eval cannot be frozen"
        )
    sizes = {"input_size": module.input_size, "hidden_size": module.hidden_size}
    for size, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: {size}: expected at least 1 to freeze, got {value}")
    for key, value in values.items():
        if not value.is_cpu:
            raise ValueError(
                f"{name}: {key}: expected weights on the CPU, got {value.device}: move the model"
            )
        if value.dtype not in (torch.float32, *REDUCED):
            raise ValueError(
                f"{name}: {key}: expected torch.float32, torch.bfloat16 or torch.float16, got "
                f"{value.dtype}: model.float() has the first"
            )
        if weights == "int8" and value.dim() > 1 and value.shape[-1] > MOST_OF_INT8:
            raise ValueError(
                f"{name}: {key}: expected rows of at most {MOST_OF_INT8} for int8, whose sums are "
                f"exact, got {value.shape[-1]}"
            )
    for key in infinite(values):
        raise ValueError(f"{name}: {key}: {NOT_FINITE}")


def _thaw(module: Any) -> None:
    before, dtype, names, *more = module._thawed
    fixed = more[0] if more else ()  # earlier pickles have none
    kept = dict(module._buffers)
    values = {name: restored(name, kept).to(dtype) for name in names}
    for name in (*names, *map(scale_name, names)):
        module._buffers.pop(name, None)
    for name, value in values.items():
        module.register_parameter(name, torch.nn.Parameter(value, name not in fixed))
    for own in (*OWN_STATE, "number_format", "_thawed"):
        vars(module).pop(own, None)
    turn(module, before)
