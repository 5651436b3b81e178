"""List filters: of Temporal's query language, `key = 'value'`, `!=` and `key IS [NOT] NULL`, joined by AND."""

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


class UnsupportedQueryError(ValueError):
    """A list filter is invalid, or not simulated."""


def select(runs: Iterable[Execution], query: str, attributes: Container[str]) -> list[Execution]:
    """The runs that match a list filter.

    Args:
        attributes: The registered search attributes.

    Raises:
        UnsupportedQueryError: The filter is invalid, or not simulated.
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
            raise UnsupportedQueryError(f"the simulator supports key = 'value', key IS NULL and AND, not {part!r}")
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
            raise UnsupportedQueryError(f"invalid query: {key} is not a valid search attribute")
