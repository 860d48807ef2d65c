"""Everyone who can be timed. A new contender is one module here and one line in CONTENDERS."""

from benchmarks.contenders import fastrnn_layers, torch_nn
from benchmarks.contenders.base import Contender, Entry

SUBJECT = fastrnn_layers.CONTENDER.name
BASELINE = torch_nn.CONTENDER.name

CONTENDERS: tuple[Contender, ...] = (
    fastrnn_layers.CONTENDER,
    torch_nn.CONTENDER,
)

__all__ = ["BASELINE", "CONTENDERS", "SUBJECT", "Contender", "Entry"]
