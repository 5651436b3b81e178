"""Task ids say everything, and only in one way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_temporal_tasks import WorkflowRun, parse_task_id, task_id_of
from tests.requirements import requirement

PRINTABLE = st.text(st.characters(categories=("L", "M", "N", "P", "S")), min_size=1, max_size=60)


@requirement("TASK-ID")
@given(PRINTABLE, PRINTABLE)
def test_a_task_id_names_its_run_in_characters_that_fit_a_header(workflow_id: str, run_id: str) -> None:
    run = WorkflowRun(workflow_id, run_id)
    task_id = task_id_of(run)
    assert parse_task_id(task_id) == run
    assert task_id.isascii()
    assert task_id.isprintable()
    assert " " not in task_id


@requirement("TASK-ID")
@given(st.text() | st.from_regex(r"[%:A-Za-z0-9-]{0,40}"))
def test_no_other_text_is_a_task_id(text: str) -> None:
    run = parse_task_id(text)
    assert run is None or task_id_of(run) == text
