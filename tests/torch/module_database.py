"""Every input and every mistake that torch's own tests have for its layers, given to fastrnn's.

Prints, as JSON, for each layer how many there were and what went wrong. A process of its own,
since importing torch's tests changes settings of torch and of hypothesis for good.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import torch
from cases import flat, tolerance
from torch.testing._internal.common_modules import ModuleErrorEnum, ModuleInfo, module_db
from words import SAME_WORDS

import fastrnn

TERMS, STEPS = 64, 8
"""No sum in the database has more terms, no sequence more steps."""


def samples(info: ModuleInfo, make: Any) -> Iterator[tuple[Any, torch.dtype, bool]]:
    """What ``make`` gives for each dtype, in training and not."""
    for dtype, training in itertools.product(info.dtypes, (True, False)):
        options = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": training}
        for sample in make(info, **options):
            yield sample, dtype, training


def built(layer_type: type, sample: Any, dtype: torch.dtype, training: bool) -> Any:
    given = sample.constructor_input
    return layer_type(*given.args, **given.kwargs).to(dtype).train(training)


def difference(own: type, sample: Any, dtype: torch.dtype, plain_type: type, training: bool) -> str:
    """Of fastrnn's layer from torch's and from the database's reference; empty if there is none."""
    fast, plain = (built(kind, sample, dtype, training) for kind in (own, plain_type))
    plain.load_state_dict(fast.state_dict())
    args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
    y, expected = flat(fast(*args, **kwargs)), flat(plain(*args, **kwargs))
    if sample.reference_fn is not None:
        y += flat(sample.reference_fn(fast, *args, **kwargs))
        expected *= 2
    near = tolerance(dtype, TERMS, STEPS)
    try:
        torch.testing.assert_close(y, expected, rtol=near, atol=near)
        if dtype is torch.float64:  # the inputs are so large that float32 cannot tell
            gradients = (gradients_of(layer, args, kwargs) for layer in (fast, plain))
            torch.testing.assert_close(*gradients, rtol=near, atol=near)
    except AssertionError as error:
        return f"{sample.desc} {sample.constructor_input.kwargs}: {error}"
    return ""


def gradients_of(layer: Any, args: Any, kwargs: Any) -> list[Any]:
    """Those of inputs, states and parameters."""
    loss = sum(y.pow(2).sum() for y in flat(layer(*args, **kwargs)))
    return list(torch.autograd.grad(loss, [*flat(*args), *layer.parameters()]))


def untold(own: type, mistake: Any) -> str:
    """What is wrong with how fastrnn's layer refuses a mistake; empty if nothing is."""
    sample = mistake.module_error_input
    given = sample.constructor_input
    try:
        layer = own(*given.args, **given.kwargs)
        if mistake.error_on is ModuleErrorEnum.FORWARD_ERROR:
            layer(*sample.forward_input.args, **sample.forward_input.kwargs)
    except mistake.error_type as error:
        if SAME_WORDS and not re.search(mistake.error_regex, str(error)):
            return f"expected {mistake.error_regex!r}, got {error}"
        return ""
    except Exception as error:
        return f"expected {mistake.error_type}, got {error!r}"
    return f"expected {mistake.error_regex!r}, got no exception"


def main() -> None:
    """Go through the layers that fastrnn has."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    report = {}
    for info in module_db:
        kind = info.module_cls.__name__
        if info.module_cls is not getattr(torch.nn, kind, None) or kind not in fastrnn.__all__:
            continue
        own = getattr(fastrnn, kind)
        inputs = list(samples(info, info.module_inputs_func))
        mistakes = list(samples(info, info.module_error_inputs_func))
        wrong = [difference(own, *case[:2], info.module_cls, case[2]) for case in inputs]
        wrong += [untold(own, mistake) for mistake, *_ in mistakes]
        report[kind] = [len(inputs), len(mistakes), list(filter(None, wrong))]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
