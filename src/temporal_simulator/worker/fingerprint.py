"""What the code of a workflow knows: the values it holds and the places where it waits, told so that equals are equal.

Two instances of a workflow that hold equal values and wait at the same places go on alike, whatever led them there.
Python lets both be seen: the workflow's object, and of each of its tasks the chain of coroutines, each with the
instruction it stopped at and all that its frame refers to. What only the SDK keeps is in the attributes of its instance
that `_told_of` names.

Not seen: values in context variables, in modules and in classes, which workflow code must not change, and the length of
the history.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import gc
import logging
import types
import warnings
import weakref
from collections.abc import Callable, Hashable, Mapping
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from temporalio.worker import WorkflowInstance

try:
    from temporalio.worker._workflow_instance import _WorkflowInstanceImpl
except ImportError as gone:
    raise ImportError(
        f"The simulator looks into the SDK's instances of workflows, and this temporalio has others: {gone}. "
        "tests/unit/testing/simulator/test_surface.py tells what it stands on."
    ) from gone

_ATOMS = (int, float, complex, str, bytes, type(None), Decimal, date, time, timedelta, tzinfo, UUID, Enum, range)
# Of these there is one of each name, or what they refer to is not the workflow's.
_NAMED = (
    type,
    types.ModuleType,
    types.GenericAlias,
    logging.Logger,
    contextvars.Context,
    contextvars.ContextVar,
    contextvars.Token,
    weakref.ReferenceType,
    _WorkflowInstanceImpl,
)
_RUNNABLES = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
# These are made by the interpreter, and have nothing but what they refer to.
_BARE = frozenset({"FutureIter", "coroutine_wrapper", "async_generator_asend"})


class _Opaque(Exception):  # noqa: N818 (it names what was met)
    """Something that can't be looked into."""


def fingerprint(instance: WorkflowInstance) -> bytes | None:
    """What the code of an instance knows, between two activations; None if that can't be seen."""
    if not isinstance(instance, _WorkflowInstanceImpl):
        return None
    try:
        return condensed(_told_of(instance))
    except (_Opaque, RecursionError):
        return None


def condensed(told: Hashable) -> bytes:
    """So short that very many can be kept. Of what differs by its `repr`, it differs too."""
    return blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _told_of(instance: _WorkflowInstanceImpl) -> Hashable:
    # Each by itself: a set of tasks has no order that means anything.
    tasks = sorted(repr(_Walk()(task)) for task in instance._tasks if not task.done())
    return (
        repr(_Walk()(instance._object)),
        tuple(tasks),
        *(
            tuple(sorted(map(str, getattr(instance, name))))
            for name in (
                "_pending_timers",
                "_pending_activities",
                "_pending_child_workflows",
                "_pending_external_signals",
                "_pending_external_cancels",
                "_patches_notified",
                "_signals",
                "_updates",
                "_in_progress_updates",
            )
        ),
        tuple(sorted(instance._curr_seqs.items())),
        tuple(sorted(instance._patches_memoized.items())),
        repr(_Walk()(instance._buffered_signals)),
        len(instance._in_progress_signals),
        instance._cancel_reason,
        instance._current_details,
        instance._random.getstate(),
    )


def _slots(thing: object) -> dict[str, Any]:
    """The values of an object that it keeps in slots."""
    found = {}
    for owner in type(thing).__mro__:
        names = owner.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            is_private = name.startswith("__") and not name.endswith("__")
            mangled = f"_{owner.__name__.lstrip('_')}{name}" if is_private else name
            if name not in {"__dict__", "__weakref__"} and hasattr(thing, mangled):
                found[mangled] = getattr(thing, mangled)
    return found


class _Walk:
    """Goes from one thing to all that it refers to. What it comes to a second time it only numbers."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        # So that no other thing gets the same id meanwhile.
        self._kept: list[object] = []

    def __call__(self, thing: object) -> Hashable:
        kind = type(thing)
        way = _WAYS.get(kind) or _way_of(kind)
        if way is _Walk._atom or way is _Walk._named:
            return way(self, thing)
        number = self._seen.setdefault(id(thing), len(self._kept))
        if number < len(self._kept):
            return "again", number
        self._kept.append(thing)
        return kind.__qualname__, way(self, thing)

    def _atom(self, thing: Any) -> Hashable:
        return thing  # type: ignore[no-any-return]

    def _named(self, thing: Any) -> Hashable:
        return type(thing).__qualname__, str(getattr(thing, "__qualname__", getattr(thing, "name", "")))

    def _sequence(self, thing: Any) -> Hashable:
        return tuple(map(self, thing))

    def _mapping(self, thing: Mapping[Any, Any]) -> Hashable:
        if all(type(key) is str for key in thing):
            return tuple((key, self(thing[key])) for key in sorted(thing))
        return tuple(sorted((repr(self(key)), repr(self(value))) for key, value in thing.items()))

    def _set(self, thing: Any) -> Hashable:
        return tuple(sorted(repr(self(each)) for each in thing))

    def _method(self, thing: Any) -> Hashable:
        return getattr(thing, "__func__", thing).__qualname__, self(thing.__self__)

    def _partial(self, thing: partial[Any]) -> Hashable:
        return self(thing.func), self(thing.args), self(thing.keywords)

    def _message(self, thing: Message) -> Hashable:
        return thing.SerializeToString(deterministic=True)

    def _error(self, thing: BaseException) -> Hashable:
        return self(thing.args), self(vars(thing)), self(thing.__cause__)

    def _function(self, thing: types.FunctionType) -> Hashable:
        name = f"{thing.__module__}.{thing.__qualname__}"
        return name, *map(self, thing.__closure__ or ()), *map(self, thing.__defaults__ or ())

    def _cell(self, thing: types.CellType) -> Hashable:
        try:
            return self(thing.cell_contents)
        except ValueError:
            return "empty"

    def _runnable(self, thing: Any) -> Hashable:
        frame = next(getattr(thing, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(thing, name))
        if frame is None:
            return thing.__qualname__, "ended"
        # Its variables, and what it has put aside in the middle of an expression.
        held = [each for each in gc.get_referents(thing) if not _is_machinery(each, frame)]
        return thing.__qualname__, frame.f_lasti, *map(self, held)

    def _future(self, thing: asyncio.Future[Any]) -> Hashable:
        if thing.cancelled():
            became: Hashable = "cancelled"
        elif thing.done():
            became = self(thing.exception() or thing.result())
        elif isinstance(thing, asyncio.Task):
            became = thing.cancelling(), self(thing.get_coro()), self(getattr(thing, "_fut_waiter", None))
        else:
            became = self(getattr(thing, "_children", None))
        # The SDK's handles are tasks with something of their own.
        own = {k: v for k, v in getattr(thing, "__dict__", {}).items() if k not in {"_children", "_loop"}}
        return became, self(own)

    def _object(self, thing: Any) -> Hashable:
        values = {**getattr(thing, "__dict__", {}), **_slots(thing)}
        if all(_is_of_python(owner) for owner in type(thing).__mro__[:-1]):
            return self(values)
        if type(thing).__qualname__ in _BARE:
            return tuple(map(self, gc.get_referents(thing)))
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                # Those of itertools are going to lose this way; they can't be looked into then.
                made_of = thing.__reduce_ex__(2)
        except TypeError:
            raise _Opaque from None
        return self(values), self(made_of)


_WAYS: dict[type, Callable[[_Walk, Any], Hashable]] = {}
"""How to tell a thing, by its type. Grows as types are met."""

_EVERY_WAY: tuple[tuple[Any, Callable[[_Walk, Any], Hashable]], ...] = (
    (_ATOMS, _Walk._atom),
    (_NAMED, _Walk._named),
    ((list, tuple, collections.deque), _Walk._sequence),
    (Mapping, _Walk._mapping),
    ((set, frozenset), _Walk._set),
    (types.FunctionType, _Walk._function),
    (types.CellType, _Walk._cell),
    ((types.MethodType, types.BuiltinFunctionType), _Walk._method),
    (partial, _Walk._partial),
    (Message, _Walk._message),
    (BaseException, _Walk._error),
    (_RUNNABLES, _Walk._runnable),
    (asyncio.Future, _Walk._future),
)


def _way_of(kind: type) -> Callable[[_Walk, Any], Hashable]:
    ways = (way for kinds, way in _EVERY_WAY if issubclass(kind, kinds))
    return _WAYS.setdefault(kind, next(ways, _Walk._object))


def _is_of_python(owner: type) -> bool:
    """Whether a class was made by a class statement, so that what it adds to its objects can be seen."""
    # As `copyreg` tells: other classes are static, or make their objects themselves.
    makes = owner.__new__
    return bool(owner.__flags__ & _IS_HEAP_TYPE) and not (
        isinstance(makes, types.BuiltinFunctionType) and makes.__self__ is owner
    )


_IS_HEAP_TYPE = 1 << 9


def _is_machinery(thing: object, frame: types.FrameType) -> bool:
    if isinstance(thing, types.FunctionType):
        return thing.__code__ is frame.f_code
    return isinstance(thing, types.FrameType | types.CodeType) or thing is frame.f_globals
