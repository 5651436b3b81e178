"""Edits that look as if they broke something and do not: by the mutant's name, why."""

from __future__ import annotations

from collections.abc import Mapping

_AT_ONCE = (
    "A decision and a cancellation in one workflow task: the SDK lets the decision wake the workflow, and what that "
    "starts begin, before it cancels it, as recorded in rejected-and-cancelled and approved-and-cancelled. A guard."
)
_BEGUN_LATER = "What the one begins runs only when the code waits next, which is after the other."
_NOBODY_IS_THERE = (
    "Nothing reaches a workflow that has ended; the answer for one comes from elsewhere. A guard that unit tests hold."
)
_NEVER_CANCELLED = (
    "An activity fails as cancelled only where the workflow asked for it; then it is the workflow that is cancelled, "
    "and this is not reached. A guard."
)

_RAISED_AGAIN = (
    "`reraise_unless_cancelled` raises again what is caught, unless the workflow is cancelled; and then nothing else "
    "is raised there."
)
_HAS_ENDED = "The activity has ended when it is awaited, and so raises nothing but how it failed."
_ONLY_FORGOTTEN = (
    "Nothing else is raised there, but where the worker puts the workflow out of memory; and what it does then, nobody "
    "sees."
)

_UNIT_TESTS_HOLD = (
    "Only activities of other makes show it; tests/unit/test_line_outcomes.py and test_activities.py hold it."
)

EQUIVALENT: Mapping[str, str] = {
    "workflow/invoice_workflow.py: _await_decision+1, swap `self._move_to(Status.PENDING_APPROVAL)` and what follows": _BEGUN_LATER,
    "workflow/invoice_workflow.py: _await_decision+5, catch everything for `asyncio.CancelledError`": _RAISED_AGAIN,
    "workflow/invoice_decisions.py: _may_be_late+7, and/or: `self._deadline is None or self._decision is not None`": (
        "Where there is a decision, or no deadline yet, it waits for a timer for nothing: the answer is the same."
    ),
    "workflow/cancellation.py: cancel_and_wait+1, do twice `task.cancel()`": "A task that is being cancelled is cancelled once.",
    "workflow/line_workflow.py: _wait_for_due_date+14, swap `await workflow.sleep(timer, summary=summary)` and what follows": (
        "What is left to wait is counted before or after the wait: nobody else looks at it."
    ),
    "workflow/cancellation.py: reraise_unless_cancelled+7, swallow: `raise  # noqa: PLE0704 (called inside the handler)`": (
        _ONLY_FORGOTTEN
    ),
    "workflow/invoice_decisions.py: _require_open_for+5, the last decision counts for `self._decision is None`": (
        "Once there is a decision, a signal that waited to be confirmed is that decision."
    ),
    'domain/line_outcomes.py: line 9, rename "PAYMENT_ID_REUSED"': _UNIT_TESTS_HOLD,
    'workflow/line_workflow.py: _is_in_doubt+4, and/or: `isinstance(detail, Mapping) and detail.get("unconfirmed") i…`': (
        _UNIT_TESTS_HOLD
    ),
    'domain/line_outcomes.py: line_outcomes+13, and/or: `outcome.error or "ERROR"`': _UNIT_TESTS_HOLD,
    'domain/line_outcomes.py: line_outcomes+13, and/or: `outcome.reason or ""`': _UNIT_TESTS_HOLD,
    "workflow/invoice_workflow.py: _validate+12, swap `validation.cancel()` and what follows": _BEGUN_LATER,
    "workflow/invoice_workflow.py: _validate+19, swallow: `raise asyncio.CancelledError from error`": _NEVER_CANCELLED,
    "workflow/invoice_workflow.py: _pay+1, swap `self._move_to(Status.PAYING)` and what follows": _BEGUN_LATER,
    "workflow/invoice_workflow.py: _pay_line+3, leave out `self._update_line(order.line, status=LineStatus.CANCELLED)`": _AT_ONCE,
    "workflow/invoice_workflow.py: _pay_line+3, swap `self._update_line(order.line, status=LineStatus.CANCELLED)` and what follows": (
        _AT_ONCE
    ),
    "workflow/invoice_workflow.py: _pay_line+3, LineStatus.CANCELLED becomes FAILED": _AT_ONCE,
    "workflow/invoice_workflow.py: run+3, catch everything for `asyncio.CancelledError`": _RAISED_AGAIN,
    "workflow/invoice_workflow.py: _validate+15, catch everything for `ActivityError`": _HAS_ENDED,
    "workflow/invoice_workflow.py: _pay+7, catch everything for `asyncio.CancelledError`": _RAISED_AGAIN,
    "workflow/invoice_workflow.py: _pay_line+5, catch everything for `(ChildWorkflowError, WorkflowAlreadyStartedError)`": (
        _ONLY_FORGOTTEN
    ),
    "workflow/invoice_workflow.py: _stop_line+7, catch everything for `FailureError`": _ONLY_FORGOTTEN,
    "workflow/line_workflow.py: run+12, catch everything for `asyncio.CancelledError`": _RAISED_AGAIN,
    'domain/decision.py: require_open_for+13, swallow: `raise RefusedError(ErrorCode.ALREADY_CLOSED, f"the invoice …`': (
        _NOBODY_IS_THERE
    ),
}

EQUIVALENT_ELSEWHERE: Mapping[str, str] = {
    "temporal_replay/commands/values.py: text+2, without ensure_ascii: "
    "`json.dumps(value, ensure_ascii=False, sort_keys=True)`": (
        "Only how a drift shows letters that are not ASCII: what differs, differs either way."
    ),
}
"""The same for the edits of `elsewhere.py`."""
