"""Equivalent mutants: mutants of the operators that do not change the behaviour. By name, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_SAME_TASK = (
    "A decision and a cancellation in one workflow task: the SDK first runs the code that the decision wakes, then cancels. "
    "Recorded in rejected-and-cancelled and approved-and-cancelled. A safeguard."
)
_STARTED_LATER = "A task started by the one statement first runs at the next await, which is after the other."
_WORKFLOW_CLOSED = "A closed workflow gets no calls; its answers come from the service. A safeguard with unit tests."
_NEVER_CANCELLED = (
    "An activity fails as cancelled only if the workflow cancelled it. Then the workflow itself is cancelled and this "
    "is not reached. A safeguard."
)

_RERAISED = (
    "`reraise_unless_cancelled` re-raises the exception unless the workflow is cancelled, when no other exception is "
    "possible there."
)
_ALREADY_ENDED = "The activity has completed when it is awaited, so it can raise only its failure."
_EVICTION_ONLY = (
    "Another exception occurs there only while the worker evicts the workflow, when its actions have no effect."
)

_COVERED_BY_UNIT_TESTS = (
    "Only other activity implementations show it; tests/unit/test_line_outcomes.py and test_activities.py test it."
)

EQUIVALENT_MUTANTS: Mapping[str, str] = {
    "workflow/invoice_workflow.py: _await_decision+1, swap `self._move_to(Status.PENDING_APPROVAL)` and what follows": _STARTED_LATER,
    "workflow/invoice_workflow.py: _await_decision+5, catch everything for `asyncio.CancelledError`": _RERAISED,
    "workflow/invoice_decisions.py: _may_be_late+7, and/or: `self._deadline is None or self._decision is not None`": (
        "With a decision, or before there is a deadline, it waits for an unneeded timer; the result is the same."
    ),
    "workflow/cancellation.py: cancel_and_wait+1, do twice `task.cancel()`": "Cancelling a task twice has the effect of cancelling it once.",
    "workflow/line_workflow.py: _wait_for_due_date+14, swap `await workflow.sleep(timer, summary=summary)` and what follows": (
        "The remaining wait is updated before or after the sleep: nothing else reads it."
    ),
    "workflow/cancellation.py: reraise_unless_cancelled+7, swallow: `raise  # noqa: PLE0704 (called inside the handler)`": (
        _EVICTION_ONLY
    ),
    "workflow/invoice_decisions.py: _require_open_for+5, the last decision counts for `self._decision is None`": (
        "Once there is a decision, a signal that waited for confirmation is that decision."
    ),
    'domain/line_outcomes.py: line 9, rename "PAYMENT_ID_REUSED"': _COVERED_BY_UNIT_TESTS,
    'workflow/line_workflow.py: _is_in_doubt+4, and/or: `isinstance(detail, Mapping) and detail.get("unconfirmed") i…`': (
        _COVERED_BY_UNIT_TESTS
    ),
    'domain/line_outcomes.py: line_outcomes+13, and/or: `outcome.error or "ERROR"`': _COVERED_BY_UNIT_TESTS,
    'domain/line_outcomes.py: line_outcomes+13, and/or: `outcome.reason or ""`': _COVERED_BY_UNIT_TESTS,
    "workflow/invoice_workflow.py: _validate+12, swap `validation.cancel()` and what follows": _STARTED_LATER,
    "workflow/invoice_workflow.py: _validate+19, swallow: `raise asyncio.CancelledError from error`": _NEVER_CANCELLED,
    "workflow/invoice_workflow.py: _pay+1, swap `self._move_to(Status.PAYING)` and what follows": _STARTED_LATER,
    "workflow/invoice_workflow.py: _pay_line+3, leave out `self._update_line(order.line, status=LineStatus.CANCELLED)`": _SAME_TASK,
    "workflow/invoice_workflow.py: _pay_line+3, swap `self._update_line(order.line, status=LineStatus.CANCELLED)` and what follows": (
        _SAME_TASK
    ),
    "workflow/invoice_workflow.py: _pay_line+3, LineStatus.CANCELLED becomes FAILED": _SAME_TASK,
    "workflow/invoice_workflow.py: run+3, catch everything for `asyncio.CancelledError`": _RERAISED,
    "workflow/invoice_workflow.py: _validate+15, catch everything for `ActivityError`": _ALREADY_ENDED,
    "workflow/invoice_workflow.py: _pay+7, catch everything for `asyncio.CancelledError`": _RERAISED,
    "workflow/invoice_workflow.py: _pay_line+5, catch everything for `(ChildWorkflowError, WorkflowAlreadyStartedError)`": (
        _EVICTION_ONLY
    ),
    "workflow/invoice_workflow.py: _stop_line+7, catch everything for `FailureError`": _EVICTION_ONLY,
    "workflow/line_workflow.py: run+12, catch everything for `asyncio.CancelledError`": _RERAISED,
    'domain/decision.py: require_open_for+13, swallow: `raise RefusedError(ErrorCode.ALREADY_CLOSED, f"the invoice …`': (
        _WORKFLOW_CLOSED
    ),
}

EQUIVALENT_CODE_MUTANTS: Mapping[str, str] = {
    "temporal_replay/commands/values.py: text+2, without ensure_ascii: "
    "`json.dumps(value, ensure_ascii=False, sort_keys=True)`": (
        "It changes only how a drift shows non-ASCII letters; the comparison is the same."
    ),
    "temporal/probe.py: no_answer_reason+9, at the boundary: "
    "`self._monotonic() - self._found_at <= _RPC.total_seconds() …`": "It differs at a single instant of the clock only.",
    "mcp_temporal_tasks/binding.py: line 74, without kw_only: `dataclass(frozen=True, kw_only=True)`": (
        "It allows positional arguments as well; nobody passes any."
    ),
    "mcp_temporal_tasks/server/outcome.py: read_outcome+7, without follow_runs: `handle.result(follow_runs=False)`": (
        "`resolve_task` gives the last run of the chain: there is none to follow."
    ),
    "testing/checker/consistency.py: _with_settled_lines+15, without strict: "
    "`zip(report.lines, shown.lines, strict=True)`": "Both reports are of one run, so they have the same lines.",
    "testing/checker/history.py: _complete_task+4, at the boundary: `0 < self._cancel_event_id < self._last_seen_event_id`": (
        "The events differ: one requests a cancellation, the other starts a task."
    ),
    "testing/model/state.py: line 47, Status.CANCELLED becomes FAILED": (
        "The status before the first submission. Only whether it is terminal is read, and both are."
    ),
    'mcp_temporal_tasks/ids.py: parse_task_id+11, without errors: `unquote(part, errors="strict")`': (
        "What is decoded otherwise is not encoded to the same id, and the id is refused either way."
    ),
    "mcp_temporal_tasks/server/responses.py: _find_error+4, without by_name: "
    "`ElicitResult.model_validate(response, by_name=False)`": (
        "Only the metadata of a result has another name in Python, and nobody reads it."
    ),
    'mcp_temporal_tasks/server/extension.py: _outcome+7, without type: `TextContent(type="text", text=text)`': (
        "It is the default."
    ),
    "mcp_temporal_tasks/server/extension.py: line 26, a unit longer: `timedelta(seconds=50)`": (
        "51 seconds are shorter than the timeout of hosts, too."
    ),
}
"""The same for the mutants of `code_mutants.py`."""
