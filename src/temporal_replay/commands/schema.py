"""The attributes of each kind of command, read alike from the command and from the event that records it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowIdReusePolicy
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes

from temporal_replay.commands import values
from temporal_replay.commands.values import Plain

# The server gives a workflow task this long where nobody says otherwise.
_TASK_TIMEOUT = timedelta(seconds=10)
_PARENT_CLOSE_POLICIES = ("UNSPECIFIED", "TERMINATE", "ABANDON", "REQUEST_CANCEL")


@dataclass(frozen=True)
class Run:
    """What the defaults of commands are taken from: the run that emits them.

    Attributes:
        memo, search_attributes: What the run after it inherits: the memo that this one began with, and the search
            attributes that it has in the end.
    """

    task_queue: str
    run_timeout: timedelta
    task_timeout: timedelta
    memo: Plain
    search_attributes: Plain

    @classmethod
    def of(cls, started: WorkflowExecutionStartedEventAttributes, upserts: Iterable[Mapping[str, Payload]] = ()) -> Run:
        """The run that began so, and has changed its search attributes since."""
        run, task = (values.span(getattr(started, f"workflow_{name}_timeout")) for name in ("run", "task"))
        search_attributes = dict(started.search_attributes.indexed_fields)
        for upsert in upserts:
            search_attributes.update(upsert)
        return cls(
            started.task_queue.name,
            run,
            task or _TASK_TIMEOUT,
            values.named_payloads(started.memo.fields),
            _set(values.named_payloads(search_attributes)),
        )


Reader = Callable[[Any, Run], Mapping[str, Plain]]


@dataclass(frozen=True)
class Shape:
    """One kind of command that an event records.

    Attributes:
        kind: See `Command.kind`.
        command: The variant of `WorkflowCommand` that asks for it; "" for one that is read in a way of its own.
        event: The attributes of the `HistoryEvent` that records it.
        name, key: Read from either.
        fields: Reads the attributes from either; both spell most of them alike.
    """

    kind: str
    command: str
    event: str
    name: Callable[[Any], str]
    key: Callable[[Any], str]
    fields: Reader


def _queue(message: Any, run: Run) -> str:
    queue = message.task_queue if isinstance(message.task_queue, str) else message.task_queue.name
    return queue or run.task_queue


def _type_name(message: Any, field: str) -> str:
    kind = getattr(message, field)
    return kind if isinstance(kind, str) else str(kind.name)


def _payloads_of(message: Any, *names: str) -> Plain:
    """The payloads under whichever of the names the message has: commands list them, events wrap them."""
    held = next(getattr(message, name) for name in names if name in message.DESCRIPTOR.fields_by_name)
    if hasattr(held, "payloads"):
        held = held.payloads
    elif hasattr(held, "metadata"):
        held = [held]
    return values.payloads(held)


def _memo(message: Any) -> Plain:
    return values.named_payloads(getattr(message.memo, "fields", message.memo))


def _search_attributes(message: Any) -> Plain:
    return values.named_payloads(message.search_attributes.indexed_fields)


def _set(search_attributes: Plain) -> Plain:
    """Those that have a value: one that was taken away is upserted with none."""
    return {name: value for name, value in dict(search_attributes or {}).items() if value not in (None, [])}


def _priority(message: Any) -> Plain:
    priority = message.priority
    return {field.name: value for field, value in priority.ListFields()}


def _activity(message: Any, run: Run) -> Mapping[str, Plain]:
    """The server settles the four time-outs of an activity by each other and by the run's."""
    to_close, to_start, attempt, heartbeat = (
        values.span(getattr(message, f"{name}_timeout"))
        for name in ("schedule_to_close", "schedule_to_start", "start_to_close", "heartbeat")
    )
    if to_close:
        to_start = _least(to_start, to_close)
        attempt = _least(attempt, to_close)
    else:
        to_close, to_start = run.run_timeout, to_start or run.run_timeout
    to_close, to_start, attempt = (_least(each, run.run_timeout) for each in (to_close, to_start, attempt))
    heartbeat = min(heartbeat, attempt) if attempt else heartbeat
    return {
        "task_queue": _queue(message, run),
        "input": _payloads_of(message, "arguments", "input"),
        "schedule_to_close_timeout": values.shown(to_close),
        "schedule_to_start_timeout": values.shown(to_start),
        "start_to_close_timeout": values.shown(attempt),
        "heartbeat_timeout": values.shown(heartbeat),
        "retry_policy": values.retry_policy(message.retry_policy),
        "priority": _priority(message),
    }


def _least(one: timedelta, other: timedelta) -> timedelta:
    """The shorter of two time-outs, of which zero means none."""
    return min(one, other) if one and other else one or other


def _child(message: Any, run: Run) -> Mapping[str, Plain]:
    execution = values.span(message.workflow_execution_timeout)
    retried = message.HasField("retry_policy")
    return {
        "task_queue": _queue(message, run),
        "input": _payloads_of(message, "input"),
        "workflow_execution_timeout": values.shown(execution),
        "workflow_run_timeout": values.shown(_least(values.span(message.workflow_run_timeout), execution)),
        "workflow_task_timeout": values.shown(values.span(message.workflow_task_timeout) or _TASK_TIMEOUT),
        "parent_close_policy": _PARENT_CLOSE_POLICIES[message.parent_close_policy],
        "workflow_id_reuse_policy": WorkflowIdReusePolicy.Name(message.workflow_id_reuse_policy),
        "retry_policy": values.retry_policy(message.retry_policy) if retried else None,
        "cron_schedule": message.cron_schedule,
        "memo": _memo(message),
        "search_attributes": _search_attributes(message),
        "priority": _priority(message),
    }


def _continued(message: Any, run: Run) -> Mapping[str, Plain]:
    return {
        "task_queue": _queue(message, run),
        "input": _payloads_of(message, "arguments", "input"),
        "workflow_run_timeout": values.shown(values.span(message.workflow_run_timeout) or run.run_timeout),
        "workflow_task_timeout": values.shown(values.span(message.workflow_task_timeout) or run.task_timeout),
        "backoff_start_interval": values.shown(values.span(message.backoff_start_interval)),
        "memo": _memo(message) or run.memo,
        "search_attributes": _set(_search_attributes(message)) or run.search_attributes,
    }


def _signal(message: Any, _run: Run) -> Mapping[str, Plain]:
    return {"run_id": _run_id(message), "input": _payloads_of(message, "args", "input")}


def _run_id(message: Any) -> str:
    """Of a workflow elsewhere, the run that is meant, or none; of a child nobody says one."""
    return str(message.workflow_execution.run_id)


def _signalled(message: Any) -> str:
    return getattr(message, "child_workflow_id", "") or str(message.workflow_execution.workflow_id)


def _nexus(message: Any, _run: Run) -> Mapping[str, Plain]:
    return {
        "endpoint": message.endpoint,
        "input": _payloads_of(message, "input"),
        **{
            f"{name}_timeout": values.shown(values.span(getattr(message, f"{name}_timeout")))
            for name in ("schedule_to_close", "schedule_to_start", "start_to_close")
        },
    }


def _nothing(_message: Any, _run: Run | None = None) -> Mapping[str, Plain]:
    return {}


def _no_text(_message: Any) -> str:
    return ""


def _activity_type(message: Any) -> str:
    return _type_name(message, "activity_type")


def _workflow_type(message: Any) -> str:
    return _type_name(message, "workflow_type")


SHAPES: tuple[Shape, ...] = (
    Shape(
        "StartTimer",
        "start_timer",
        "timer_started",
        _no_text,
        lambda m: str(m.seq if "seq" in m.DESCRIPTOR.fields_by_name else m.timer_id),
        lambda m, _: {"start_to_fire_timeout": values.shown(values.span(m.start_to_fire_timeout))},
    ),
    Shape(
        "ScheduleActivity",
        "schedule_activity",
        "activity_task_scheduled",
        _activity_type,
        lambda m: str(m.activity_id),
        _activity,
    ),
    Shape(
        "StartChildWorkflow",
        "start_child_workflow_execution",
        "start_child_workflow_execution_initiated",
        _workflow_type,
        lambda m: str(m.workflow_id),
        _child,
    ),
    Shape(
        "CompleteWorkflow",
        "complete_workflow_execution",
        "workflow_execution_completed",
        _no_text,
        _no_text,
        lambda m, _: {"result": _payloads_of(m, "result")},
    ),
    Shape(
        "FailWorkflow",
        "fail_workflow_execution",
        "workflow_execution_failed",
        _no_text,
        _no_text,
        lambda m, _: {"failure": values.failure(m.failure)},
    ),
    Shape("CancelWorkflow", "cancel_workflow_execution", "workflow_execution_canceled", _no_text, _no_text, _nothing),
    Shape(
        "ContinueAsNewWorkflow",
        "continue_as_new_workflow_execution",
        "workflow_execution_continued_as_new",
        _workflow_type,
        _no_text,
        _continued,
    ),
    Shape(
        "UpsertSearchAttributes",
        "upsert_workflow_search_attributes",
        "upsert_workflow_search_attributes",
        _no_text,
        _no_text,
        lambda m, _: {"search_attributes": _search_attributes(m)},
    ),
    Shape(
        "ModifyProperties",
        "modify_workflow_properties",
        "workflow_properties_modified",
        _no_text,
        _no_text,
        lambda m, _: {"memo": values.named_payloads(m.upserted_memo.fields)},
    ),
    Shape(
        "SignalExternalWorkflow",
        "signal_external_workflow_execution",
        "signal_external_workflow_execution_initiated",
        lambda m: str(m.signal_name),
        _signalled,
        _signal,
    ),
    Shape(
        "RequestCancelExternalWorkflow",
        "request_cancel_external_workflow_execution",
        "request_cancel_external_workflow_execution_initiated",
        _no_text,
        lambda m: str(m.workflow_execution.workflow_id),
        lambda m, _: {"run_id": _run_id(m), "reason": values.cancel_reason(m.reason)},
    ),
    Shape(
        "ScheduleNexusOperation",
        "schedule_nexus_operation",
        "nexus_operation_scheduled",
        lambda m: f"{m.service}.{m.operation}",
        _no_text,
        _nexus,
    ),
)
