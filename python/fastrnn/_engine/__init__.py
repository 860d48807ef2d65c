"""Who computes: what takes checked tensors to memory addresses, and what makes kernels of them."""
