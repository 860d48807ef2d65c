"""Options of layers and cells by their public names, which derived classes may use otherwise."""

from __future__ import annotations

from typing import Any

__all__ = ["Option"]


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
        for held in (module._parameters, module._buffers, module._modules):
            if self._name in held:
                return held[self._name]
        return getattr(module, kept)
