"""How many threads a call may use: processors, quotas of control groups, crowded machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from cases import Case
from engine import USUAL_SIGNAL, probe
from one_thread import job_and_results, results_of


def write(root, path, text):
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def quota(root):
    return probe().processor_quota(str(root))


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert quota(tmp_path) == 0


def test_version_2_in_a_container_that_sees_its_own_group_as_the_top(tmp_path):
    write(tmp_path, "/proc/self/cgroup", "0::/\n")
    write(tmp_path, "/sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert quota(tmp_path) == 1.5


def test_version_2_the_smallest_quota_on_the_way_up_counts(tmp_path):
    write(tmp_path, "/proc/self/cgroup", "0::/pods/pod7/box\n")
    write(tmp_path, "/sys/fs/cgroup/pods/pod7/box/cpu.max", "max 100000\n")
    write(tmp_path, "/sys/fs/cgroup/pods/pod7/cpu.max", "200000 50000\n")
    write(tmp_path, "/sys/fs/cgroup/pods/cpu.max", "800000 100000\n")
    assert quota(tmp_path) == 4


def test_version_2_without_a_limit(tmp_path):
    write(tmp_path, "/proc/self/cgroup", "0::/user.slice\n")
    write(tmp_path, "/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n")
    assert quota(tmp_path) == 0


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_version_1(tmp_path, mount):
    write(tmp_path, "/proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/docker/box\n0::/\n")
    folder = f"/sys/fs/cgroup/{mount}/docker/box"
    write(tmp_path, f"{folder}/cpu.cfs_quota_us", "250000\n")
    write(tmp_path, f"{folder}/cpu.cfs_period_us", "100000\n")
    assert quota(tmp_path) == 2.5


def test_version_1_without_a_limit(tmp_path):
    write(tmp_path, "/proc/self/cgroup", "3:cpu,cpuacct:/\n")
    write(tmp_path, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert quota(tmp_path) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_that_may_run_on_one_processor_uses_one_thread():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import json, torch; torch.set_num_threads(8)\n"
        "from fastrnn import _core; print(json.dumps(_core.processors()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found = json.loads(result.stdout)
    assert found["allowed"] == found["usable"] == 1


def test_a_signal_between_two_threads_is_measured():
    program = (
        "import torch\n"
        "from fastrnn import _core\n"
        "print(_core.processors()['usable'], _core.signal_nanoseconds(2))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    usable, signal = result.stdout.split()
    assert 0 < float(signal) <= 2000
    if int(usable) == 1:  # nothing to measure: what is usual
        assert float(signal) == USUAL_SIGNAL


@pytest.fixture(params=[1.0, 1e5])
def signal(request):
    """Threads that are next to one another, or so far apart that they never share units."""
    probe().pretend_signal(request.param)
    yield
    probe().pretend_signal(USUAL_SIGNAL)


@pytest.mark.usefixtures("each_isa", "restore_threads", "signal")
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "shape",
    [
        {"lengths": (300,), "input_size": 40, "hidden_size": 35},
        {"lengths": (9,) * 3, "hidden_size": 290},
        {"lengths": (7,) * 4 + (3,) * 2, "form": "packed", "bidirectional": True},
    ],
    ids=["one row", "few rows", "packed"],
)
def test_how_far_apart_threads_are_changes_no_bit(kind, shape, threads):
    job, expected = job_and_results(Case(kind, **shape), {})
    torch.set_num_threads(threads)
    got = results_of(*job)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))


@pytest.fixture(params=[1, 2, 5])
def crowded(request):
    """Crews have half their members after so many waits, and after as many again."""
    probe().pretend_crowded(request.param)
    yield
    probe().pretend_crowded(-1)


@pytest.mark.usefixtures("each_isa", "restore_threads")
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(
    "shape",
    [
        {"lengths": (9,) * 3},
        {"lengths": (9,) * 13, "input_size": 300},
        {"lengths": (300,), "input_size": 40, "hidden_size": 35},
        {"lengths": (7,) * 9 + (3,) * 4 + (1,) * 2, "form": "packed", "bidirectional": True},
        {"lengths": (5, 5), "num_layers": 2, "bidirectional": True},
    ],
    ids=["within the step", "projected ahead", "with helpers", "packed", "two layers"],
)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {}),
        ("LSTM", {"proj_size": 33}),
        ("GRU", {}),
        ("GRU", {"reset_after": False}),
        ("RNN", {}),
    ],
    ids=["lstm", "lstm projected", "gru", "gru reset before", "rnn"],
)
def test_threads_that_leave_in_mid_call_change_no_bit(kind, options, shape, threads, crowded):
    """The rows and units that those had who leave pass to those who stay."""
    sizes = {"hidden_size": 290, "proj_size": options.get("proj_size", 0), **shape}
    job, expected = job_and_results(Case(kind, **sizes), options)
    torch.set_num_threads(threads)
    got = results_of(*job)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))
