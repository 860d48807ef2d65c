"""A layer's options by the name that earlier pickles know them by."""

from ._call.spec import Variant

__all__ = ["Variant"]
