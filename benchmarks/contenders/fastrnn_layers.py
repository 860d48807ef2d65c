"""fastrnn's layers, called exactly as torch.nn's are."""

from benchmarks.contenders.torch_nn import TorchLayers

CONTENDER = TorchLayers("fastrnn", "fastrnn")
