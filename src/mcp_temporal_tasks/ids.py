"""Task ids: made of workflow id and run id, so that no server needs to remember any; keys of questions. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

_MAX_LENGTH = 2000
# Of a run id, what tells runs apart: the end of Temporal's UUIDs is random, their beginning the time.
_RUN_ID_SUFFIX = 12


class WorkflowRun(NamedTuple):
    """One run of a workflow. The run id is Temporal's, a UUID: too random to guess, but no secret among those who may
    ask this Temporal, or this server's other tools, what runs there.
    """

    workflow_id: str
    run_id: str


def task_id_of(run: WorkflowRun) -> str:
    """`<workflow id>:<run id>`, both percent-encoded: printable ASCII, as the header Mcp-Name needs it."""
    return f"{quote(run.workflow_id, safe='')}:{quote(run.run_id, safe='')}"


def input_key(key: str, run_id: str) -> str:
    """Under which key a client is asked what a run of a task's workflow asks under `key`.

    A workflow counts its questions from the start in each run, but one task may be several: it continues as new, is
    retried, or an operator resets it. An answer to one run's question must not pass for one to another's.
    """
    return f"{key}.{run_id[-_RUN_ID_SUFFIX:]}"


def parse_task_id(task_id: str) -> WorkflowRun | None:
    """The run that a task id names; None for what `task_id_of` would never have made.

    Both parts are required: without its run id a workflow can be guessed, and would be another one after a while.
    """
    if len(task_id) > _MAX_LENGTH or task_id.count(":") != 1:
        return None
    try:
        run = WorkflowRun(*(unquote(part, errors="strict") for part in task_id.split(":")))
    except UnicodeDecodeError:
        return None
    is_whole = bool(run.workflow_id) and bool(run.run_id) and f"{run.workflow_id}{run.run_id}".isprintable()
    # One id for one task: another spelling of it would slip past whoever compares them.
    return run if is_whole and task_id_of(run) == task_id else None
