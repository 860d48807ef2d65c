"""Keras 3 on its torch backend, with its recurrent layers on fastrnn's engine.

Keras's torch backend computes a recurrent layer on the CPU in a Python loop over the steps. Inside
`accelerate` the same layers compute all steps in one call of the engine.
"""

from __future__ import annotations

from ._interop.keras_acceleration import accelerate, restore

__all__ = ["accelerate", "restore"]
