"""The reader of machine code finds loads that wait for one another."""

from __future__ import annotations

from machine_code import bytes_of_code, overlaps, waits

LOADS = [f"@P0 LDG.E.128 R{4 * i}, desc[UR4][R2.64]" for i in range(6, 9)]
MULTIPLICATIONS = [
    "HMMA.16816.F32.BF16 R8, R24, R28, R8",
    "HMMA.16816.F32.BF16 R12, R24, R32, R12",
]


def listing(*lines):
    code = [*lines, "@P1 BRA 0x0000", "EXIT"]
    text = "\n".join(f"        /*{16 * i:04x}*/   {line} ;" for i, line in enumerate(code))
    return f"Function : _Z8run_step\n{text}\n"


def test_loads_before_all_multiplications_are_one_trip():
    assert waits(listing(*LOADS, *MULTIPLICATIONS)) == {"_Z8run_step": 1}


def test_a_load_behind_a_multiplication_that_waits_is_another():
    order = [*LOADS[:2], MULTIPLICATIONS[0], LOADS[2], MULTIPLICATIONS[1]]
    assert waits(listing(*order)) == {"_Z8run_step": 2}


def test_a_load_whose_words_are_taken_apart_before_the_next_is_another():
    order = [LOADS[0], "PRMT R50, R24, 0x7610, R50", *LOADS[1:], *MULTIPLICATIONS]
    assert waits(listing(*order)) == {"_Z8run_step": 2}


def test_loads_behind_branches_are_no_fast_loop():
    order = [LOADS[0], "@P2 BRA 0x0030", LOADS[1], "BSYNC B0", *MULTIPLICATIONS]
    assert waits(listing(*order)) == {"_Z8run_step": 0}


EARLY = ["PREEXIT", "LDG.E.128 R24, desc[UR4][R8.64]", "ACQBULK"]
WRITE = "STG.E desc[UR4][R8.64], R24"


def test_a_launch_that_waits_for_the_one_before_and_then_writes_may_overlap():
    assert overlaps(listing(*EARLY, WRITE)) == {"_Z8run_step": True}


def test_one_that_writes_before_that_does_not_wait_or_lets_nobody_begin_may_not():
    wrong = [[WRITE, *EARLY], [EARLY[0], WRITE], [*EARLY[1:], WRITE]]
    assert [overlaps(listing(*order)) for order in wrong] == [{"_Z8run_step": False}] * 3


def test_an_instruction_takes_sixteen_bytes():
    assert bytes_of_code(listing(WRITE)) == {"_Z8run_step": 48}
