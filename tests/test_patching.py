"""patch: what torch's constructors give inside of it, and that nothing of it is left outside."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading

import pytest
import torch
from cases import CELLS, LAYERS
from torch import nn

import fastrnn

KINDS = [*LAYERS, *CELLS]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.LSTM(3, 3), nn.GRU(3, 3), nn.RNN(3, 3)])

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x


class Own(nn.LSTM):
    """A subclass of torch's layer, as users write them."""


def kinds_built():
    """The class of one layer of each kind as the code under test would build it."""
    return {kind: type(getattr(nn, kind)(3, 4)) for kind in KINDS}


TORCHS = {kind: getattr(nn, kind) for kind in KINDS}
FASTRNNS = {kind: getattr(fastrnn, kind) for kind in KINDS}


def test_torchs_constructors_give_fastrnns_layers_inside_and_torchs_outside():
    with fastrnn.patch():
        assert kinds_built() == FASTRNNS
        assert type(nn.modules.LSTM(3, 4)) is fastrnn.LSTM
        assert type(nn.modules.rnn.LSTM(3, 4)) is fastrnn.LSTM
        assert type(TORCHS["LSTM"](3, hidden_size=4)) is fastrnn.LSTM
    assert kinds_built() == TORCHS


def test_a_model_built_under_patch_computes_what_torchs_computes():
    torch.manual_seed(8)
    plain = Model()
    torch.manual_seed(8)
    with fastrnn.patch():
        fast = Model()
    assert type(fast.layers[0]) is fastrnn.LSTM
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(fast(x), plain(x))


def test_isinstance_means_the_same_inside():
    plain = nn.LSTM(3, 4)
    with fastrnn.patch():
        assert isinstance(plain, nn.LSTM)
        assert isinstance(nn.LSTM(3, 4), nn.LSTM)
        assert isinstance(fastrnn.LSTM(3, 4), nn.LSTM)
        assert not isinstance(plain, fastrnn.LSTM)
        assert issubclass(fastrnn.GRU, nn.GRU)


def test_subclasses_made_or_built_inside_are_what_they_are_outside():
    with fastrnn.patch():

        class Inside(nn.GRU):
            def __init__(self, size):
                super().__init__(size, size)

            def forward(self, x):
                return super().forward(x)[0]

        class InsideFast(fastrnn.GRU):
            pass

        with pytest.warns(UserWarning, match="Inside as it is, since it derives from torch.nn.GRU"):
            layer = Inside(3)
        assert type(layer) is Inside
        assert type(InsideFast(3, 4)) is InsideFast
        with pytest.warns(UserWarning, match="subclasses=True"):
            assert type(Own(3, 4)) is Own
        assert layer(torch.randn(5, 2, 3)).shape == (5, 2, 3)


def test_patch_may_be_nested_and_entered_again():
    patch = fastrnn.patch()
    with patch:
        with patch, fastrnn.patch():
            assert kinds_built() == FASTRNNS
        assert kinds_built() == FASTRNNS
    assert kinds_built() == TORCHS
    with patch:
        assert kinds_built() == FASTRNNS
    assert kinds_built() == TORCHS


def test_patch_ends_when_its_body_raises():
    with pytest.raises(ZeroDivisionError), fastrnn.patch():
        1 / 0  # noqa: B018
    assert kinds_built() == TORCHS


def test_a_failing_constructor_fails_as_in_torch_and_leaves_patch_intact():
    with fastrnn.patch():
        with pytest.raises(ValueError, match="hidden_size"):
            nn.LSTM(3, 0)
        assert kinds_built() == FASTRNNS


def test_torchs_classes_are_untouched_afterwards():
    before = {kind: dict(vars(cls)) for kind, cls in TORCHS.items()}
    with fastrnn.patch():
        pass
    assert {kind: dict(vars(cls)) for kind, cls in TORCHS.items()} == before


def test_patch_serves_as_a_decorator():
    @fastrnn.patch()
    def build():
        return nn.RNN(3, 4)

    assert type(build()) is fastrnn.RNN
    assert kinds_built() == TORCHS


def test_other_threads_build_torchs_layers_meanwhile_and_may_patch_on_their_own():
    found, inside, done = {}, threading.Barrier(3), threading.Barrier(3)

    def work(name, patched):
        if patched:
            with fastrnn.patch():
                inside.wait()
                found[name] = kinds_built()
                done.wait()
            found[f"{name} afterwards"] = kinds_built()
        else:
            inside.wait()
            found[name] = kinds_built()
            done.wait()

    threads = [
        threading.Thread(target=work, args=args)
        for args in (("a", True), ("b", True), ("c", False))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        "a": FASTRNNS,
        "b": FASTRNNS,
        "c": TORCHS,
        "a afterwards": TORCHS,
        "b afterwards": TORCHS,
    }


def test_many_threads_entering_and_leaving_at_random_leave_nothing_behind():
    wrong = []

    def work():
        for _ in range(50):
            with fastrnn.patch():
                wrong.append(type(nn.GRUCell(1, 1)) is not fastrnn.GRUCell)
            wrong.append(type(nn.GRUCell(1, 1)) is not nn.GRUCell)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(wrong)
    assert kinds_built() == TORCHS


def test_asyncio_tasks_do_not_patch_each_other():
    async def patched(entered, checked):
        with fastrnn.patch():
            entered.set()
            await checked.wait()
            return kinds_built()

    async def bare(entered, checked):
        await entered.wait()
        built = kinds_built()
        checked.set()
        return built

    async def both():
        events = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(patched(*events), bare(*events))

    assert asyncio.run(both()) == [FASTRNNS, TORCHS]


def test_a_task_started_inside_is_patched_until_the_block_ends():
    async def build(ended):
        before = kinds_built()
        await ended.wait()
        with fastrnn.patch():  # the hooks are there, whoever holds them
            pass
        return before, kinds_built()

    async def start():
        ended = asyncio.Event()
        with fastrnn.patch():
            task = asyncio.create_task(build(ended))
            in_thread = await asyncio.to_thread(kinds_built)
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        ended.set()
        built = await task
        release.set()
        holder.join()
        return in_thread, *built

    held, release = threading.Event(), threading.Event()

    def hold():
        with fastrnn.patch():
            held.set()
            release.wait()

    assert asyncio.run(start()) == (FASTRNNS, FASTRNNS, TORCHS)


def test_a_block_left_in_another_context_than_it_was_entered_in_has_ended():
    patch = fastrnn.patch()
    contextvars.copy_context().run(patch.__enter__)
    assert kinds_built() == TORCHS
    patch.__exit__(None, None, None)
    assert kinds_built() == TORCHS
    with fastrnn.patch():
        assert kinds_built() == FASTRNNS
    assert kinds_built() == TORCHS


def test_one_patch_entered_by_two_contexts_ends_for_the_one_that_leaves():
    patch = fastrnn.patch()
    one, other = contextvars.copy_context(), contextvars.copy_context()
    one.run(patch.__enter__)
    other.run(patch.__enter__)
    one.run(patch.__exit__, None, None, None)
    assert (one.run(kinds_built), other.run(kinds_built)) == (TORCHS, FASTRNNS)
    other.run(patch.__exit__, None, None, None)
    assert other.run(kinds_built) == TORCHS


# ---- as a decorator ----


@fastrnn.patch()
def generator(log):
    try:
        received = yield kinds_built()
        received = yield received, kinds_built()
    except KeyError:
        yield "caught", kinds_built()
    finally:
        log.append(kinds_built())
    return "returned"


@fastrnn.patch()
async def coroutine():
    before = kinds_built()
    await asyncio.sleep(0)
    return before, kinds_built()


@fastrnn.patch()
async def async_generator(log):
    try:
        received = yield kinds_built()
        await asyncio.sleep(0)
        yield received, kinds_built()
    except KeyError:
        yield "caught", kinds_built()
    finally:
        await asyncio.sleep(0)
        log.append(kinds_built())


def test_decorated_functions_stay_of_their_kind_and_keep_their_names():
    assert inspect.isgeneratorfunction(generator)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isasyncgenfunction(async_generator)
    named = [one.__name__ for one in (generator, coroutine, async_generator)]
    assert named == ["generator", "coroutine", "async_generator"]


def test_a_decorated_generator_is_patched_while_it_runs_and_its_caller_is_not():
    log = []
    steps = generator(log)
    assert kinds_built() == TORCHS
    assert next(steps) == FASTRNNS
    assert kinds_built() == TORCHS
    assert steps.send("sent") == ("sent", FASTRNNS)
    assert kinds_built() == TORCHS
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "returned"
    assert log == [FASTRNNS]


def test_a_decorated_generator_gets_what_is_thrown_and_closed():
    log = []
    steps = generator(log)
    next(steps)
    assert steps.throw(KeyError()) == ("caught", FASTRNNS)
    steps.close()
    assert log == [FASTRNNS]
    steps = generator(log)
    next(steps)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError())
    assert log == [FASTRNNS] * 2
    assert kinds_built() == TORCHS


def test_a_decorated_coroutine_is_patched_to_its_end_and_nobody_else_is():
    async def both():
        async def bare():
            built = [kinds_built()]
            await asyncio.sleep(0)
            return [*built, kinds_built()]

        return await asyncio.gather(coroutine(), bare())

    assert asyncio.run(both()) == [(FASTRNNS, FASTRNNS), [TORCHS, TORCHS]]


def test_whoever_drives_a_decorated_coroutine_by_hand_is_not_patched():
    steps = coroutine()
    steps.send(None)
    assert kinds_built() == TORCHS
    with pytest.raises(StopIteration) as end:
        steps.send(None)
    assert end.value.value == (FASTRNNS, FASTRNNS)


def test_a_decorated_coroutine_that_is_cancelled_ends_its_patch():
    @fastrnn.patch()
    async def wait(log):
        try:
            await asyncio.Event().wait()
        finally:
            log.append(kinds_built())

    async def cancel(log):
        task = asyncio.create_task(wait(log))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        log.append(kinds_built())

    log = []
    asyncio.run(cancel(log))
    assert log == [FASTRNNS, TORCHS]


def test_a_decorated_async_generator_is_patched_while_it_runs_and_its_caller_is_not():
    async def drive(log):
        steps = async_generator(log)
        assert await steps.asend(None) == FASTRNNS
        assert kinds_built() == TORCHS
        assert await steps.asend("sent") == ("sent", FASTRNNS)
        with pytest.raises(StopAsyncIteration):
            await steps.asend(None)
        steps = async_generator(log)
        await anext(steps)
        assert await steps.athrow(KeyError()) == ("caught", FASTRNNS)
        await steps.aclose()
        assert [built async for built in async_generator(log)] == [FASTRNNS, (None, FASTRNNS)]
        assert kinds_built() == TORCHS

    log = []
    asyncio.run(drive(log))
    assert log == [FASTRNNS] * 3


def test_a_decorated_function_may_call_itself_and_raise():
    @fastrnn.patch()
    def build(depth):
        if depth == 0:
            raise KeyError(type(nn.RNN(3, 4)))
        try:
            build(depth - 1)
        finally:
            assert kinds_built() == FASTRNNS

    with pytest.raises(KeyError) as raised:
        build(2)
    assert raised.value.args == (fastrnn.RNN,)
    assert kinds_built() == TORCHS
