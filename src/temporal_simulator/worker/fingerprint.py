"""State hashing of live workflow instances: equal states have equal fingerprints.

Two instances of a workflow that hold equal values and wait at the same instructions have the same future, whatever led
them there. Python exposes both: the workflow object, and for each asyncio task its chain of coroutines, each with its
last instruction and everything that its frame refers to. `_state_of` names what the SDK's instance keeps itself.

Not included: context variables, module and class attributes, which workflow code must not change, and the length of the
history. (State hashing in explicit-state model checking: Holzmann, "The Model Checker SPIN", IEEE TSE 1997.)
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
except ImportError as missing:
    raise ImportError(
        "The simulator inspects the SDK's workflow instances, which this version of temporalio implements otherwise: "
        f"{missing}. See tests/unit/testing/simulator/test_surface.py for what it depends on."
    ) from missing

_ATOMS = (int, float, complex, str, bytes, type(None), Decimal, date, time, timedelta, tzinfo, UUID, Enum, range)
# Identified by name: what they refer to is not the state of the workflow.
_BY_NAME = (
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
_SUSPENDABLE = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
# Helpers of the interpreter, which have no state but what they refer to.
_INTERPRETER_TYPES = frozenset({"FutureIter", "coroutine_wrapper", "async_generator_asend"})


class _OpaqueError(Exception):
    """An object has state that cannot be inspected."""


def fingerprint(instance: WorkflowInstance) -> bytes | None:
    """The fingerprint of an instance between two activations; None if some of its state cannot be inspected."""
    if not isinstance(instance, _WorkflowInstanceImpl):
        return None
    try:
        return hash_state(_state_of(instance))
    except (_OpaqueError, RecursionError):
        return None


def hash_state(state: Hashable) -> bytes:
    """A 128-bit hash of the `repr` of a state, short enough to keep millions of them."""
    return blake2b(repr(state).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _state_of(instance: _WorkflowInstanceImpl) -> Hashable:
    # Each with an encoder of its own, because the set of tasks has no meaningful order.
    tasks = sorted(repr(_StateEncoder()(task)) for task in instance._tasks if not task.done())
    return (
        repr(_StateEncoder()(instance._object)),
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
        repr(_StateEncoder()(instance._buffered_signals)),
        len(instance._in_progress_signals),
        instance._cancel_reason,
        instance._current_details,
        instance._random.getstate(),
    )


def _slots(value: object) -> dict[str, Any]:
    """The attributes of an object that are in slots."""
    found = {}
    for owner in type(value).__mro__:
        names = owner.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            is_private = name.startswith("__") and not name.endswith("__")
            mangled = f"_{owner.__name__.lstrip('_')}{name}" if is_private else name
            if name not in {"__dict__", "__weakref__"} and hasattr(value, mangled):
                found[mangled] = getattr(value, mangled)
    return found


class _StateEncoder:
    """Encodes an object graph as nested tuples. The second occurrence of an object is encoded as a back reference."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        # Keeps objects alive, so that no id is used twice.
        self._kept: list[object] = []

    def __call__(self, value: object) -> Hashable:
        kind = type(value)
        encode = _ENCODERS.get(kind) or _encoder_for(kind)
        if encode is _StateEncoder._atom or encode is _StateEncoder._named:
            return encode(self, value)
        number = self._seen.setdefault(id(value), len(self._kept))
        if number < len(self._kept):
            return "seen", number
        self._kept.append(value)
        return kind.__qualname__, encode(self, value)

    def _atom(self, value: Any) -> Hashable:
        return value  # type: ignore[no-any-return]

    def _named(self, value: Any) -> Hashable:
        return type(value).__qualname__, str(getattr(value, "__qualname__", getattr(value, "name", "")))

    def _sequence(self, value: Any) -> Hashable:
        return tuple(map(self, value))

    def _mapping(self, value: Mapping[Any, Any]) -> Hashable:
        if all(type(key) is str for key in value):
            return tuple((key, self(value[key])) for key in sorted(value))
        return tuple(sorted((repr(self(key)), repr(self(item))) for key, item in value.items()))

    def _set(self, value: Any) -> Hashable:
        return tuple(sorted(repr(self(each)) for each in value))

    def _method(self, value: Any) -> Hashable:
        return getattr(value, "__func__", value).__qualname__, self(value.__self__)

    def _partial(self, value: partial[Any]) -> Hashable:
        return self(value.func), self(value.args), self(value.keywords)

    def _message(self, value: Message) -> Hashable:
        return value.SerializeToString(deterministic=True)

    def _error(self, value: BaseException) -> Hashable:
        return self(value.args), self(vars(value)), self(value.__cause__)

    def _function(self, value: types.FunctionType) -> Hashable:
        name = f"{value.__module__}.{value.__qualname__}"
        return name, *map(self, value.__closure__ or ()), *map(self, value.__defaults__ or ())

    def _cell(self, value: types.CellType) -> Hashable:
        try:
            return self(value.cell_contents)
        except ValueError:
            return "empty"

    def _suspended(self, value: Any) -> Hashable:
        frame = next(getattr(value, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(value, name))
        if frame is None:
            return value.__qualname__, "ended"
        # Its variables, and the temporary values of unfinished expressions.
        held = [each for each in gc.get_referents(value) if not _is_code_or_globals(each, frame)]
        return value.__qualname__, frame.f_lasti, *map(self, held)

    def _future(self, value: asyncio.Future[Any]) -> Hashable:
        if value.cancelled():
            state: Hashable = "cancelled"
        elif value.done():
            state = self(value.exception() or value.result())
        elif isinstance(value, asyncio.Task):
            state = value.cancelling(), self(value.get_coro()), self(getattr(value, "_fut_waiter", None))
        else:
            state = self(getattr(value, "_children", None))
        # The SDK's handles are tasks with attributes of their own.
        own = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in {"_children", "_loop"}}
        return state, self(own)

    def _object(self, value: Any) -> Hashable:
        values = {**getattr(value, "__dict__", {}), **_slots(value)}
        if all(_is_python_class(owner) for owner in type(value).__mro__[:-1]):
            return self(values)
        if type(value).__qualname__ in _INTERPRETER_TYPES:
            return tuple(map(self, gc.get_referents(value)))
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                # Python will remove the pickle support of itertools; then they cannot be inspected.
                reduced = value.__reduce_ex__(2)
        except TypeError:
            raise _OpaqueError from None
        return self(values), self(reduced)


_ENCODERS: dict[type, Callable[[_StateEncoder, Any], Hashable]] = {}
"""The encoder of each type; filled as types occur."""

_ENCODERS_BY_BASE: tuple[tuple[Any, Callable[[_StateEncoder, Any], Hashable]], ...] = (
    (_ATOMS, _StateEncoder._atom),
    (_BY_NAME, _StateEncoder._named),
    ((list, tuple, collections.deque), _StateEncoder._sequence),
    (Mapping, _StateEncoder._mapping),
    ((set, frozenset), _StateEncoder._set),
    (types.FunctionType, _StateEncoder._function),
    (types.CellType, _StateEncoder._cell),
    ((types.MethodType, types.BuiltinFunctionType), _StateEncoder._method),
    (partial, _StateEncoder._partial),
    (Message, _StateEncoder._message),
    (BaseException, _StateEncoder._error),
    (_SUSPENDABLE, _StateEncoder._suspended),
    (asyncio.Future, _StateEncoder._future),
)


def _encoder_for(kind: type) -> Callable[[_StateEncoder, Any], Hashable]:
    encoders = (encoder for bases, encoder in _ENCODERS_BY_BASE if issubclass(kind, bases))
    return _ENCODERS.setdefault(kind, next(encoders, _StateEncoder._object))


def _is_python_class(owner: type) -> bool:
    """Whether a class was made by a class statement, so that the attributes of its objects can be inspected."""
    # The same test as in `copyreg`: other classes are static types, or have a `__new__` in C.
    new = owner.__new__
    return bool(owner.__flags__ & _IS_HEAP_TYPE) and not (
        isinstance(new, types.BuiltinFunctionType) and new.__self__ is owner
    )


_IS_HEAP_TYPE = 1 << 9


def _is_code_or_globals(value: object, frame: types.FrameType) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__code__ is frame.f_code
    return isinstance(value, types.FrameType | types.CodeType) or value is frame.f_globals
