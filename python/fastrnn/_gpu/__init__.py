"""Calls on a GPU: large products by torch, recurrences by `fastrnn._cuda`, all on one stream.

The extension runs the recurrence of one layer, both directions side by side, and takes addresses.
Everything around it is torch's: memory, the products that have no recurrence in them (x W_ih^T, and
the gradients of x, W and b), dropout. Nothing here waits for the device, and what a kernel needs to
know of a batch (lengths, resets) it reads there; so a call can be captured in a CUDA graph.

- ``call.py``: `CudaCall`, which takes the place of `fastrnn.calls.Call`; how a batch is laid out.
- ``forward.py``, ``backward.py``: the two passes, layer by layer. ``passes.py``: what they share.
- ``engine.py``: the extension in torch's terms: precisions, streams, cells.

Tensors of all steps are laid out as the caller's input is: [T, B, ...], [B, T, ...], or packed
[N, ...]. "Rows" are the same, flat: [rows, ...].
"""
