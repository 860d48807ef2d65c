"""What a call costs the host can be measured without a GPU."""

from __future__ import annotations

import sys
from unittest import mock

import emulated
import host_time
import pytest


@pytest.mark.slow
def test_every_call_goes_to_kernels_that_do_nothing(capsys):
    reason = emulated.missing()
    if reason:
        pytest.skip(reason)
    with (
        mock.patch.object(sys, "argv", ["host_time.py", "--seconds", "0"]),
        mock.patch.object(emulated, "FAST", "-O0"),  # sooner built
    ):
        host_time.main()
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("us a call")
    assert [line.split("  ")[0] for line in lines] == [
        "LSTMCell, inference",
        *(
            f"{kind}, {what}"
            for kind in ("LSTM, 1 x 1", "GRU, 1 x 1", "LSTM, 2 x 2")
            for what in ("inference", "training")
        ),
    ]
    for line in lines:
        by_torch, ours = map(float, line.split()[-2:])
        assert by_torch > 0
        assert ours > 0
