"""The attributes of each kind of command, read in the same way from an emitted command and from a recorded event."""

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

# Server default.
_TASK_TIMEOUT = timedelta(seconds=10)
_PARENT_CLOSE_POLICIES = ("UNSPECIFIED", "TERMINATE", "ABANDON", "REQUEST_CANCEL")


@dataclass(frozen=True)
class RunDefaults:
    """The run that emits commands, as the source of their defaults.

    Attributes:
        memo, search_attributes: What continue-as-new inherits: the initial memo, and the search attributes at the end.
    """

    task_queue: str
    run_timeout: timedelta
    task_timeout: timedelta
    memo: Plain
    search_attributes: Plain

    @classmethod
    def of(
        cls, started: WorkflowExecutionStartedEventAttributes, upserts: Iterable[Mapping[str, Payload]] = ()
    ) -> RunDefaults:
        """The defaults of a run, from its start event and its search attribute upserts."""
        run, task = (values.to_timedelta(getattr(started, f"workflow_{name}_timeout")) for name in ("run", "task"))
        search_attributes = dict(started.search_attributes.indexed_fields)
        for upsert in upserts:
            search_attributes.update(upsert)
        return cls(
            started.task_queue.name,
            run,
            task or _TASK_TIMEOUT,
            values.named_payloads(started.memo.fields),
            _set_attributes(values.named_payloads(search_attributes)),
        )


FieldReader = Callable[[Any, RunDefaults], Mapping[str, Plain]]


@dataclass(frozen=True)
class CommandSchema:
    """One kind of command that an event records.

    Attributes:
        kind: See `Command.kind`.
        command: The variant of `WorkflowCommand`.
        event: The attributes variant of the `HistoryEvent` that records it.
        name, key: Read from either message.
        fields: Reads the attributes from either message; most have the same names in both.
    """

    kind: str
    command: str
    event: str
    name: Callable[[Any], str]
    key: Callable[[Any], str]
    fields: FieldReader


def _task_queue(message: Any, defaults: RunDefaults) -> str:
    queue = message.task_queue if isinstance(message.task_queue, str) else message.task_queue.name
    return queue or defaults.task_queue


def _type_name(message: Any, field: str) -> str:
    kind = getattr(message, field)
    return kind if isinstance(kind, str) else str(kind.name)


def _payloads_of(message: Any, *names: str) -> Plain:
    """The payloads in the first of the named fields that the message has. Commands list payloads, events wrap them."""
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


def _set_attributes(search_attributes: Plain) -> Plain:
    """Search attributes with a value. Removal is an upsert without a value."""
    return {name: value for name, value in dict(search_attributes or {}).items() if value not in (None, [])}


def _priority(message: Any) -> Plain:
    priority = message.priority
    return {field.name: value for field, value in priority.ListFields()}


def _activity(message: Any, defaults: RunDefaults) -> Mapping[str, Plain]:
    """Attributes of an activity, with the timeouts that the server derives from each other and from the run timeout."""
    to_close, to_start, attempt, heartbeat = (
        values.to_timedelta(getattr(message, f"{name}_timeout"))
        for name in ("schedule_to_close", "schedule_to_start", "start_to_close", "heartbeat")
    )
    if to_close:
        to_start = _shorter_timeout(to_start, to_close)
        attempt = _shorter_timeout(attempt, to_close)
    else:
        to_close, to_start = defaults.run_timeout, to_start or defaults.run_timeout
    to_close, to_start, attempt = (
        _shorter_timeout(each, defaults.run_timeout) for each in (to_close, to_start, attempt)
    )
    heartbeat = min(heartbeat, attempt) if attempt else heartbeat
    return {
        "task_queue": _task_queue(message, defaults),
        "input": _payloads_of(message, "arguments", "input"),
        "schedule_to_close_timeout": values.format_duration(to_close),
        "schedule_to_start_timeout": values.format_duration(to_start),
        "start_to_close_timeout": values.format_duration(attempt),
        "heartbeat_timeout": values.format_duration(heartbeat),
        "retry_policy": values.retry_policy(message.retry_policy),
        "priority": _priority(message),
    }


def _shorter_timeout(one: timedelta, other: timedelta) -> timedelta:
    """The shorter of two timeouts; zero means none."""
    return min(one, other) if one and other else one or other


def _child_workflow(message: Any, defaults: RunDefaults) -> Mapping[str, Plain]:
    execution = values.to_timedelta(message.workflow_execution_timeout)
    retried = message.HasField("retry_policy")
    return {
        "task_queue": _task_queue(message, defaults),
        "input": _payloads_of(message, "input"),
        "workflow_execution_timeout": values.format_duration(execution),
        "workflow_run_timeout": values.format_duration(
            _shorter_timeout(values.to_timedelta(message.workflow_run_timeout), execution)
        ),
        "workflow_task_timeout": values.format_duration(
            values.to_timedelta(message.workflow_task_timeout) or _TASK_TIMEOUT
        ),
        "parent_close_policy": _PARENT_CLOSE_POLICIES[message.parent_close_policy],
        "workflow_id_reuse_policy": WorkflowIdReusePolicy.Name(message.workflow_id_reuse_policy),
        "retry_policy": values.retry_policy(message.retry_policy) if retried else None,
        "cron_schedule": message.cron_schedule,
        "memo": _memo(message),
        "search_attributes": _search_attributes(message),
        "priority": _priority(message),
    }


def _continue_as_new(message: Any, defaults: RunDefaults) -> Mapping[str, Plain]:
    return {
        "task_queue": _task_queue(message, defaults),
        "input": _payloads_of(message, "arguments", "input"),
        "workflow_run_timeout": values.format_duration(
            values.to_timedelta(message.workflow_run_timeout) or defaults.run_timeout
        ),
        "workflow_task_timeout": values.format_duration(
            values.to_timedelta(message.workflow_task_timeout) or defaults.task_timeout
        ),
        "backoff_start_interval": values.format_duration(values.to_timedelta(message.backoff_start_interval)),
        "memo": _memo(message) or defaults.memo,
        "search_attributes": _set_attributes(_search_attributes(message)) or defaults.search_attributes,
    }


def _signal(message: Any, _run: RunDefaults) -> Mapping[str, Plain]:
    return {"run_id": _run_id(message), "input": _payloads_of(message, "args", "input")}


def _run_id(message: Any) -> str:
    """Run id of an external workflow, if the code named one. Signals to child workflows have none."""
    return str(message.workflow_execution.run_id)


def _signal_target(message: Any) -> str:
    return getattr(message, "child_workflow_id", "") or str(message.workflow_execution.workflow_id)


def _nexus(message: Any, _run: RunDefaults) -> Mapping[str, Plain]:
    return {
        "endpoint": message.endpoint,
        "input": _payloads_of(message, "input"),
        **{
            f"{name}_timeout": values.format_duration(values.to_timedelta(getattr(message, f"{name}_timeout")))
            for name in ("schedule_to_close", "schedule_to_start", "start_to_close")
        },
    }


def _no_fields(_message: Any, _run: RunDefaults | None = None) -> Mapping[str, Plain]:
    return {}


def _empty(_message: Any) -> str:
    return ""


def _activity_type(message: Any) -> str:
    return _type_name(message, "activity_type")


def _workflow_type(message: Any) -> str:
    return _type_name(message, "workflow_type")


COMMAND_SCHEMAS: tuple[CommandSchema, ...] = (
    CommandSchema(
        "StartTimer",
        "start_timer",
        "timer_started",
        _empty,
        lambda m: str(m.seq if "seq" in m.DESCRIPTOR.fields_by_name else m.timer_id),
        lambda m, _: {"start_to_fire_timeout": values.format_duration(values.to_timedelta(m.start_to_fire_timeout))},
    ),
    CommandSchema(
        "ScheduleActivity",
        "schedule_activity",
        "activity_task_scheduled",
        _activity_type,
        lambda m: str(m.activity_id),
        _activity,
    ),
    CommandSchema(
        "StartChildWorkflow",
        "start_child_workflow_execution",
        "start_child_workflow_execution_initiated",
        _workflow_type,
        lambda m: str(m.workflow_id),
        _child_workflow,
    ),
    CommandSchema(
        "CompleteWorkflow",
        "complete_workflow_execution",
        "workflow_execution_completed",
        _empty,
        _empty,
        lambda m, _: {"result": _payloads_of(m, "result")},
    ),
    CommandSchema(
        "FailWorkflow",
        "fail_workflow_execution",
        "workflow_execution_failed",
        _empty,
        _empty,
        lambda m, _: {"failure": values.failure(m.failure)},
    ),
    CommandSchema(
        "CancelWorkflow", "cancel_workflow_execution", "workflow_execution_canceled", _empty, _empty, _no_fields
    ),
    CommandSchema(
        "ContinueAsNewWorkflow",
        "continue_as_new_workflow_execution",
        "workflow_execution_continued_as_new",
        _workflow_type,
        _empty,
        _continue_as_new,
    ),
    CommandSchema(
        "UpsertSearchAttributes",
        "upsert_workflow_search_attributes",
        "upsert_workflow_search_attributes",
        _empty,
        _empty,
        lambda m, _: {"search_attributes": _search_attributes(m)},
    ),
    CommandSchema(
        "ModifyProperties",
        "modify_workflow_properties",
        "workflow_properties_modified",
        _empty,
        _empty,
        lambda m, _: {"memo": values.named_payloads(m.upserted_memo.fields)},
    ),
    CommandSchema(
        "SignalExternalWorkflow",
        "signal_external_workflow_execution",
        "signal_external_workflow_execution_initiated",
        lambda m: str(m.signal_name),
        _signal_target,
        _signal,
    ),
    CommandSchema(
        "RequestCancelExternalWorkflow",
        "request_cancel_external_workflow_execution",
        "request_cancel_external_workflow_execution_initiated",
        _empty,
        lambda m: str(m.workflow_execution.workflow_id),
        lambda m, _: {"run_id": _run_id(m), "reason": values.cancel_reason(m.reason)},
    ),
    CommandSchema(
        "ScheduleNexusOperation",
        "schedule_nexus_operation",
        "nexus_operation_scheduled",
        lambda m: f"{m.service}.{m.operation}",
        _empty,
        _nexus,
    ),
)
