"""The run of a task, as Temporal describes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcp_temporal_tasks.server.extension import PATIENCE
from mcp_temporal_tasks.server.lookup import Found
from tests.requirements import requirement


@requirement("TASK-ENDINGS")
@pytest.mark.parametrize(("events", "has_begun"), [(2, False), (3, False), (4, True)])
def test_a_run_has_begun_once_its_first_workflow_task_is_over(events: int, has_begun: bool) -> None:
    """The first three events are: the run was started, its first task was scheduled, a worker took that task."""
    unused = cast(Any, None)
    run = cast(Any, SimpleNamespace(history_length=events))
    assert Found("id", unused, run, unused, unused, unused).has_begun is has_begun


def test_a_client_without_tasks_waits_less_than_hosts_do() -> None:
    assert PATIENCE.total_seconds() < 60
