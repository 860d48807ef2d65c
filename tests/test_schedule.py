"""The cost model: what it may never choose, and where one choice gives way to another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from engine import USUAL_SIGNAL, probe

from fastrnn import _explain

LANES = 16
GATES = 4
TALLEST = 6
ROW_CYCLES = 60.0


def schedule(
    rows: float, H: int, threads: int, deals: bool = False, steps: float = math.inf
) -> tuple[int, int, float, bool]:
    """(groups of rows, groups of units, cycles, are the panels left over dealt out by rows?) for a
    step of an LSTM of H float32 units, which are packed for so many."""
    panels = -(-H // LANES)
    panel_bytes = H * GATES * LANES * 4
    found: tuple[int, int, float, bool] = probe().schedule(
        *(rows, panels, GATES, TALLEST, H, panel_bytes, ROW_CYCLES, deals, threads),
        panel_bytes / steps,
    )
    return found


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("H", [1, 16, 17, 64, 650, 2048])
@pytest.mark.parametrize("rows", [1, 1.5, 2, 7, 32, 300])
def test_a_split_uses_threads_rows_and_units_that_exist(rows: float, H: int, threads: int) -> None:
    row_groups, unit_groups, cycles, _ = schedule(rows, H, threads)
    assert 1 <= row_groups <= max(1, rows)
    assert 1 <= unit_groups <= -(-H // LANES)
    assert row_groups * unit_groups <= threads
    assert cycles <= schedule(rows, H, 1)[2]


@pytest.mark.parametrize("H", [64, 512])
@pytest.mark.parametrize("rows", [1, 4, 64])
def test_more_threads_never_make_a_step_longer(rows: int, H: int) -> None:
    cycles = [schedule(rows, H, threads)[2] for threads in range(1, 17)]
    assert cycles == sorted(cycles, reverse=True)


def test_a_single_row_is_split_by_units_from_some_width_on() -> None:
    choices = [schedule(1, H, 2)[:2] for H in range(16, 1025, 16)]
    border = choices.index((1, 2))
    assert border > 0
    assert set(choices[:border]) == {(1, 1)}
    assert set(choices[border:]) == {(1, 2)}


@pytest.fixture
def pretend_signal() -> Iterator[Callable[[float], None]]:
    """Says how many nanoseconds a signal takes; after the test as many as in others."""
    yield probe().pretend_signal
    probe().pretend_signal(USUAL_SIGNAL)


def test_the_farther_apart_threads_are_the_fewer_share_units(
    pretend_signal: Callable[[float], None],
) -> None:
    borders = []
    for signal in (20, 60, 260, 1000):
        pretend_signal(signal)
        borders.append([schedule(1, H, 2)[1] for H in range(16, 2049, 16)].index(2))
        assert schedule(12, 64, 2)[:2] == (2, 1)  # groups of rows never meet
    assert borders == sorted(set(borders))


def test_a_barrier_costs_more_signals_the_more_threads_meet(
    pretend_signal: Callable[[float], None],
) -> None:
    """One for each doubling, and the lines of memory after them."""
    costs = []
    for threads in (2, 4, 16):
        cycles = []
        for signal in (100, 101):
            pretend_signal(signal)
            assert schedule(1, 4096, threads)[:2] == (1, threads)
            cycles.append(schedule(1, 4096, threads)[2])
        costs.append((cycles[1] - cycles[0]) * 0.4)
    assert costs == pytest.approx([4, 5, 7])


def test_what_is_packed_for_few_steps_is_not_read_by_groups_of_rows_far_apart(
    pretend_signal: Callable[[float], None],
) -> None:
    """Each would need what the other has packed."""
    assert schedule(12, 128, 2)[:2] == (2, 1)
    pretend_signal(260)
    assert schedule(12, 128, 2)[:2] == (2, 1)
    assert schedule(12, 128, 2, steps=10)[:2] != (2, 1)


def test_a_first_block_is_shared_where_that_is_worth_the_way(
    pretend_signal: Callable[[float], None],
) -> None:
    def helped(features: int, steps: int) -> bool:
        words = ["threads=2", f"T={steps}", "B=1", f"I={features}", "H=32"]
        (layer,) = _explain.collect(_explain.parse("GRU", words))["forward"]
        (crew,) = layer["crews"]
        assert (crew["row_groups"], crew["unit_groups"]) == (1, 1)
        return bool(crew["helped_steps"])

    assert helped(600, 60)
    assert helped(8, 600)  # the others hide behind the steps before
    assert not helped(8, 60)
    pretend_signal(2000)
    assert not helped(600, 60)


WIDE = 256 * LANES  # weights beyond every second-level cache: units are split


@pytest.mark.parametrize("rows", [2, TALLEST, 5 * TALLEST])
def test_panels_left_over_are_dealt_out_by_rows(rows: int) -> None:
    uneven = WIDE + LANES
    dealt, whole = (schedule(rows, uneven, 2, deals) for deals in (True, False))
    assert dealt[1:4:2] == (2, True)
    assert dealt[2] < whole[2]


def test_nothing_is_dealt_out_where_nothing_is_left_or_nobody_gains() -> None:
    assert not schedule(TALLEST, WIDE, 2, deals=True)[3]
    assert not schedule(TALLEST, WIDE + LANES, 1, deals=True)[3]
    assert not schedule(1, WIDE + LANES, 2, deals=True)[3]


def projects_within_step(rows: float, features: int, H: int, threads: int, crews: int = 1) -> bool:
    """Of the same LSTM with so many input features."""
    panel_bytes = H * GATES * LANES * 4
    found: bool = probe().projects_within_step(
        rows, -(-H // LANES), GATES, TALLEST, H, panel_bytes, ROW_CYCLES, features, crews, threads
    )
    return found


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("H", [16, 128, 650])
def test_a_single_row_never_projects_its_input_within_a_step(H: int, threads: int) -> None:
    """It would read weights at every step that a block of steps reads once."""
    assert not any(projects_within_step(1, features, H, threads) for features in (16, 64, 1000))


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_fill_tiles_project_their_input_within_the_step(threads: int) -> None:
    assert projects_within_step(TALLEST * 8, 64, 64, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [4, 20, 64])
def test_weights_from_afar_are_read_once_for_a_block(rows: int, threads: int) -> None:
    assert not projects_within_step(rows, 1024, 1024, threads)


def test_crews_side_by_side_fill_the_caches_together() -> None:
    assert projects_within_step(256, 512, 512, 1)
    assert not projects_within_step(256, 512, 512, 1, crews=1000)


def test_directions_take_turns_only_where_that_is_worth_the_barriers() -> None:
    in_turn = probe().better_in_turn
    assert in_turn(1e3, 1, 2.1e3)
    assert not in_turn(1e3, 1, 1.9e3)
    assert not in_turn(1e3, 2, 2.1e3)
    assert in_turn(1e6, 2, 2.1e6)


@pytest.mark.parametrize("rows", [1, 6, 64])
def test_an_input_without_features_is_not_projected_within_the_step(rows: int) -> None:
    assert not projects_within_step(rows, 0, 128, 2)


def test_many_rows_of_a_narrow_layer_never_wait_for_one_another() -> None:
    assert [schedule(rows, 64, 2)[:2] for rows in (12, 24, 96)] == [(2, 1)] * 3


@pytest.mark.parametrize("rows", [2, 16, 64])
def test_weights_that_leave_the_cache_are_split_by_units(rows: int) -> None:
    assert schedule(rows, 4096, 2)[:2] == (1, 2)


@pytest.mark.parametrize("rows", [4, 16, 64])
def test_weights_beyond_every_cache_are_not_all_read_at_every_step(rows: int) -> None:
    assert not projects_within_step(rows, 4096, 4096, 2)


def test_short_calls_stay_on_one_thread() -> None:
    worth = [probe().threads_worth(10.0**power, 8) for power in range(10)]
    assert worth[0] == 1
    assert worth[-1] == 8
    assert worth == sorted(worth)


def test_a_block_is_neither_too_short_to_pay_nor_too_long_for_the_cache() -> None:
    for weight_bytes in (0, 2**40):
        rows = [probe().forward_block_rows(2**power, 16, weight_bytes) for power in range(6, 24)]
        assert rows[0] == 512
        assert rows[-1] == 64
        assert rows == sorted(rows, reverse=True)


def test_blocks_are_longer_where_weights_come_from_memory() -> None:
    row_bytes = 2**14
    short, long = (probe().forward_block_rows(row_bytes, 16, size) for size in (0, 2**40))
    assert short < long


def test_blocks_are_longer_where_each_row_has_many_features() -> None:
    row_bytes = 2**14
    rows = [probe().forward_block_rows(row_bytes, 2**power, 0) for power in range(15)]
    assert rows[0] == 64
    assert rows[-1] == 512
    assert rows == sorted(rows)
