"""Lists of runs: as much of Temporal's query language as `key = 'value'` and `key IS NULL`, joined by AND."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable

from temporalio.api.enums.v1 import WorkflowExecutionStatus

from temporal_simulator.server.execution import Execution

_CONDITION = re.compile(r"\s*(\w+)\s*(=|!=)\s*['\"]([^'\"]*)['\"]\s*")
_IS_NULL = re.compile(r"\s*(\w+)\s+IS\s+(NOT\s+)?NULL\s*", re.IGNORECASE)
_STATUSES = {
    name.removeprefix("WORKFLOW_EXECUTION_STATUS_").title().replace("_", ""): value
    for name, value in WorkflowExecutionStatus.items()
}


class QueryNotUnderstood(ValueError):  # noqa: N818 (an answer to whoever asks)
    """A query that is none, or is more than the simulator understands."""


def select(runs: Iterable[Execution], query: str, attributes: Container[str]) -> list[Execution]:
    """The runs that a query asks for.

    Args:
        attributes: Which search attributes there are.

    Raises:
        QueryNotUnderstood: As its name says.
    """
    found = list(runs)
    for part in re.split(r"\s+AND\s+", query.strip(), flags=re.IGNORECASE) if query.strip() else []:
        if (condition := _CONDITION.fullmatch(part)) is not None:
            key, operator, value = condition.groups()
            found = [run for run in found if (_value_of(run, key, attributes) == value) == (operator == "=")]
        elif (condition := _IS_NULL.fullmatch(part)) is not None:
            key, negated = condition.groups()
            found = [run for run in found if (_value_of(run, key, attributes) is None) != bool(negated)]
        else:
            raise QueryNotUnderstood(f"the simulator understands key = 'value', key IS NULL and AND, not {part!r}")
    return found


def _value_of(run: Execution, key: str, attributes: Container[str]) -> str | None:
    match key:
        case "WorkflowType":
            return run.start.workflow_type
        case "WorkflowId":
            return run.workflow_id
        case "RunId":
            return run.run_id
        case "TaskQueue":
            return run.start.task_queue
        case "ExecutionStatus":
            return next(name for name, status in _STATUSES.items() if status == run.status)
        case _ if key in attributes:
            payload = run.search_attributes.get(key)
            return str(json.loads(payload.data)) if payload is not None and payload.data else None
        case _:
            raise QueryNotUnderstood(f"invalid query: {key} is not a valid search attribute")
