"""Published recurrent cells, each as the few lines that `fastrnn.Recurrent` needs.

::

    rnn = fastrnn.Recurrent(fastrnn.cells.MGU, 128, 256, num_layers=2)

Each says where it was published, with its equations: ``docs/cells.md`` has a table of all. In them
x is the input, a state with a prime its value before the step, W the weights of the input, U those
of the state; products of vectors are elementwise.
"""

from .dynamical import (
    LEM,
    LMU,
    SCRN,
    Antisymmetric,
    AntisymmetricRNN,
    CoRNN,
    FastGRNN,
    FastRNN,
    GatedAntisymmetricRNN,
)
from .elementwise import QRNN, SRU, IndRNN, MinGRU, MinLSTM, UnICORNN
from .exponential import SLSTM
from .gated import (
    ATR,
    CFN,
    GRU,
    MGU,
    RAN,
    SGRN,
    STAR,
    UGRNN,
    IntersectionRNN,
    LightRU,
    LiGRU,
    MinimalRNN,
)
from .lstms import CIFG, JANET, LSTM, MultiplicativeLSTM, PeepholeLSTM, ResidualLSTM
from .normed import BlockGRU, LayerNormGRU, LayerNormLSTM
from .searched import MUT1, MUT2, MUT3, NAS
from .timed import GRUD, TLSTM, CfC, PhasedLSTM

__all__ = [
    "ATR",
    "CFN",
    "CIFG",
    "GRU",
    "GRUD",
    "JANET",
    "LEM",
    "LMU",
    "LSTM",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "NAS",
    "QRNN",
    "RAN",
    "SCRN",
    "SGRN",
    "SLSTM",
    "SRU",
    "STAR",
    "TLSTM",
    "UGRNN",
    "Antisymmetric",
    "AntisymmetricRNN",
    "BlockGRU",
    "CfC",
    "CoRNN",
    "FastGRNN",
    "FastRNN",
    "GatedAntisymmetricRNN",
    "IndRNN",
    "IntersectionRNN",
    "LayerNormGRU",
    "LayerNormLSTM",
    "LiGRU",
    "LightRU",
    "MinGRU",
    "MinLSTM",
    "MinimalRNN",
    "MultiplicativeLSTM",
    "PeepholeLSTM",
    "PhasedLSTM",
    "ResidualLSTM",
    "UnICORNN",
]
