"""`patch`: inside it, torch's constructors give fastrnn's layers."""

from __future__ import annotations

import functools
import inspect
import threading
import types
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ContextDecorator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import torch

from .counterparts import FAST_OF, turn

__all__ = ["patch"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class patch(ContextDecorator):
    """Inside ``with fastrnn.patch():``, constructing a recurrent layer of torch's gives fastrnn's.

    For code that says ``torch.nn.LSTM(...)`` and cannot be changed, wherever it imported the
    class from. The class itself stays torch's own, so ``isinstance``, subclassing and ``super()``
    mean what they always mean, and layers of derived classes are built as they always are, with a
    warning that names the class: `convert` turns those with ``subclasses=True``.

    Also a decorator: of functions, and of coroutines and generators of either kind, for which it
    holds while their own code runs and not while they wait or whoever iterates is at work.

    May be nested and used again. Holds for the thread or asyncio task that entered it, and for what
    starts with its context meanwhile (tasks, ``asyncio.to_thread``) as long as it lasts; for no
    other. An exception in the body passes through and ends it as the end of the body does.

    Examples
    --------
    >>> with fastrnn.patch():
    ...     model = build_model()
    """

    def __init__(self) -> None:
        self._open: list[_Entry] = []

    def __enter__(self) -> patch:
        _hold_hooks()
        entry = _Entry()
        self._open.append(entry)
        _entered.set((*_entered.get(), entry))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = _entered.get()
        # Left in another context than it was entered in, as fixtures may be, it ends all the same.
        entry = next((one for one in reversed(entered) if one in self._open), self._open[-1])
        self._open.remove(entry)
        entry.is_open = False
        _entered.set(tuple(one for one in entered if one.is_open))
        _release_hooks()

    def __call__(self, func: FunctionT) -> FunctionT:
        """``func``, patched while it runs."""
        for is_kind, wrap in _WRAPPERS:
            if is_kind(func):
                wrapped: Any = functools.wraps(func)(wrap(func))
                return wrapped  # type: ignore[no-any-return]
        return super().__call__(func)


class _Entry:
    """One time that a `patch` was entered."""

    is_open = True


_entered: ContextVar[tuple[_Entry, ...]] = ContextVar("fastrnn_patch_entered", default=())


def _is_patched() -> bool:
    return any(entry.is_open for entry in _entered.get())


# ---- code that is suspended and resumed ----


def _resumed(steps: Any) -> Generator[Any, Any, Any]:
    """What ``steps``, a generator or coroutine, yields and returns; patched while it runs."""
    resume, value = steps.send, None
    while True:
        try:
            with patch():
                yielded = resume(value)
        except StopIteration as end:
            return end.value
        try:
            resume, value = steps.send, (yield yielded)
        except GeneratorExit:
            with patch():
                steps.close()
            raise
        except BaseException as error:
            resume, value = steps.throw, error


_awaited: Callable[[Any], Any] = types.coroutine(_resumed)


def _wrapped_generator(func: Callable[..., Any]) -> Callable[..., Any]:
    def patched(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from _resumed(func(*args, **kwargs)))

    return patched


def _wrapped_coroutine(func: Callable[..., Any]) -> Callable[..., Any]:
    async def patched(*args: Any, **kwargs: Any) -> Any:
        return await _awaited(func(*args, **kwargs))

    return patched


def _wrapped_async_generator(func: Callable[..., Any]) -> Callable[..., Any]:
    async def patched(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = func(*args, **kwargs)
        resume, value = steps.asend, None
        while True:
            try:
                yielded = await _awaited(resume(value))
            except StopAsyncIteration:
                return
            try:
                resume, value = steps.asend, (yield yielded)
            except GeneratorExit:
                await _awaited(steps.aclose())
                raise
            except BaseException as error:
                resume, value = steps.athrow, error

    return patched


_WRAPPERS = (
    (inspect.isgeneratorfunction, _wrapped_generator),
    (inspect.iscoroutinefunction, _wrapped_coroutine),
    (inspect.isasyncgenfunction, _wrapped_async_generator),
)


# ---- torch's constructors ----

_hook_lock = threading.Lock()
_hook_holders = 0
_original_inits: dict[type, Callable[..., None]] = {}


def _hold_hooks() -> None:
    """Hook torch's constructors when the first of all threads enters a `patch`."""
    global _hook_holders
    with _hook_lock:
        _hook_holders += 1
        if _hook_holders == 1:
            for plain, fast in FAST_OF.items():
                _original_inits[plain] = vars(plain)["__init__"]
                plain.__init__ = _hooked(plain, fast)  # type: ignore[misc]


def _release_hooks() -> None:
    """Take the hooks away when the last of all threads leaves."""
    global _hook_holders
    with _hook_lock:
        _hook_holders -= 1
        if _hook_holders == 0:
            for plain, original in _original_inits.items():
                plain.__init__ = original  # type: ignore[misc]
            _original_inits.clear()


def _hooked(plain: type, fast: type) -> Callable[..., None]:
    original = _original_inits[plain]

    @functools.wraps(original)
    def __init__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if not _is_patched() or isinstance(self, fast):
            return
        if type(self) is plain:
            turn(self, fast)
        else:
            warnings.warn(
                f"fastrnn.patch() builds {type(self).__qualname__} as it is, since it derives from "
                f"torch.nn.{plain.__name__}; fastrnn.convert(model, subclasses=True) turns it",
                stacklevel=2,
            )

    return __init__
