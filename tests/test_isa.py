"""The choice of an instruction set from Python: by call, and by ``with``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastrnn import _core, isa


@pytest.fixture(autouse=True)
def _back_to_automatic() -> Iterator[None]:
    yield
    isa.force(None)


def test_what_is_available_was_built_and_the_active_one_is_available():
    assert set(isa.available()) <= set(isa.built())
    assert isa.active() in isa.available()


def test_a_call_forces_for_good():
    for name in isa.available():
        isa.force(name)
        assert isa.active() == name


def test_a_with_block_restores_what_was_forced_before_it():
    first, last = isa.available()[0], isa.available()[-1]
    isa.force(first)
    with isa.force(last) as chosen:
        assert isinstance(chosen, isa.force)
        assert isa.active() == last
        with isa.force(first):
            assert isa.active() == first
        assert isa.active() == last
    assert isa.active() == first


def test_a_with_block_restores_the_automatic_choice_even_after_an_error():
    automatic = isa.active()
    with pytest.raises(ZeroDivisionError), isa.force(isa.available()[0]):
        1 / 0  # noqa: B018
    assert isa.active() == automatic


def test_none_goes_back_to_the_automatic_choice():
    automatic = isa.active()
    isa.force(isa.available()[0])
    isa.force(None)
    assert isa.active() == automatic


def test_an_unknown_name_is_refused_with_a_list_of_what_exists():
    before = isa.active()
    with pytest.raises(ValueError, match=rf"'{isa.built()[0]}'.*got 'mmx'"):
        isa.force("mmx")
    assert isa.active() == before


def test_a_name_that_this_processor_cannot_run_is_refused(monkeypatch):
    monkeypatch.setattr(_core, "isa_built", lambda: [*isa.available(), "avx4096"])
    with pytest.raises(RuntimeError, match="cannot run 'avx4096'"):
        isa.force("avx4096")
