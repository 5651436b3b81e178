"""Task ids, made of workflow id and run id so that no server needs to store them, and keys of input requests. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

_MAX_LENGTH = 2000
# The last 12 digits of a run id are random; the first ones are a timestamp.
_RUN_ID_SUFFIX = 12


class WorkflowRun(NamedTuple):
    """One run of a workflow.

    The run id is a UUID by Temporal: too random to guess, but not a secret among clients that may list workflows in the
    same Temporal, or through other tools of this server.
    """

    workflow_id: str
    run_id: str


def task_id_of(run: WorkflowRun) -> str:
    """`<workflow id>:<run id>`, both percent-encoded: printable ASCII, as the Mcp-Name header requires."""
    return f"{quote(run.workflow_id, safe='')}:{quote(run.run_id, safe='')}"


def input_key(key: str, run_id: str) -> str:
    """The key under which a client sees the input request `key` of a run.

    A workflow numbers its requests from the start in each run, but a task may span several runs: after continue-as-new,
    a retry or a reset. The suffix keeps an answer for one run from being accepted by another.
    """
    return f"{key}.{run_id[-_RUN_ID_SUFFIX:]}"


def parse_task_id(task_id: str) -> WorkflowRun | None:
    """The run that a task id names; None for text that `task_id_of` does not return.

    The run id is required: a workflow id can be guessed, and may be reused by a later workflow.

    Example:
        parse_task_id("deploy-1:0198...")  # WorkflowRun("deploy-1", "0198...")
    """
    if len(task_id) > _MAX_LENGTH or task_id.count(":") != 1:
        return None
    try:
        run = WorkflowRun(*(unquote(part, errors="strict") for part in task_id.split(":")))
    except UnicodeDecodeError:
        return None
    is_whole = bool(run.workflow_id) and bool(run.run_id) and f"{run.workflow_id}{run.run_id}".isprintable()
    # Each task has one id: another spelling would evade comparisons of ids.
    return run if is_whole and task_id_of(run) == task_id else None
