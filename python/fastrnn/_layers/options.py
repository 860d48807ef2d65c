"""Options of layers and cells by their public names, which derived classes may use otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Option", "Registering"]


class Option:
    """What a layer was made with, for those who read it; the layer itself asks ``_fastrnn_<name>``.

    A class that somebody derived may have its own of the name, which is what is found then: also a
    parameter, buffer or module, for which torch looks where a class has nothing of the name.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type) -> Any:
        kept = f"_fastrnn_{self._name}"
        if module is None:
            return getattr(owner, kept)
        if vars(module).get(_REGISTERED) == self._name:
            raise AttributeError(self._name)
        for held in (module._parameters, module._buffers, module._modules):
            if self._name in held:
                return held[self._name]
        return getattr(module, kept)


class Registering(torch.nn.Module):
    """Takes parameters and buffers that are called like an `Option`.

    torch refuses names that a module has already, as those of its class.
    """

    def register_parameter(self, name: str, param: Any) -> None:
        with self._registering(name):
            super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        with self._registering(name):
            super().register_buffer(name, tensor, persistent)

    @contextmanager
    def _registering(self, name: str) -> Iterator[None]:
        vars(self)[_REGISTERED] = name
        try:
            yield
        finally:
            del vars(self)[_REGISTERED]


_REGISTERED = "_fastrnn_registered"
"""Where a module has the name of what is registered just now, which no option of it hides."""
