"""The run of a task, as Temporal describes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcp_temporal_tasks.server.extension import WAIT_TIMEOUT
from mcp_temporal_tasks.server.lookup import ResolvedTask
from tests.requirements import requirement


@requirement("TASK-ENDINGS")
@pytest.mark.parametrize(("events", "has_started"), [(2, False), (3, False), (4, True)])
def test_a_run_has_started_once_its_first_workflow_task_has_completed(events: int, has_started: bool) -> None:
    """The first three events are: the run was started, its first task was scheduled, a worker took that task."""
    unused = cast(Any, None)
    run = cast(Any, SimpleNamespace(history_length=events))
    assert ResolvedTask("id", unused, run, unused, unused, unused).has_started is has_started


def test_the_wait_timeout_is_shorter_than_the_timeout_of_hosts() -> None:
    assert WAIT_TIMEOUT.total_seconds() < 60
