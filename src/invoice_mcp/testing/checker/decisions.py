"""Rules S3 and S8: which decision counts, and until when. Pure.

The decision rule is written independently of the workflow on purpose.
"""

from __future__ import annotations

from datetime import timedelta

from invoice_mcp.domain.report import Decision, Status, Verdict
from invoice_mcp.testing.checker.history import ReceivedDecision
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import Findings

# A real server fires timers up to a second late. The rest is for a machine under load.
_TIMER_TOLERANCE = timedelta(seconds=5)


def s3(observed: Observations) -> Findings:
    for run in observed.runs:
        first, report = run.trace.effective_decision, run.report
        if report is not None and report.decision is not None and first is not None:
            made = report.decision
            if made.verdict is not first.verdict:
                yield run.workflow_id, f"was {first.verdict} first, at {first.at}, but is {made.verdict} by {made.by}"
        if run.approved is not None and first is not None and run.approved != (first.verdict is Verdict.APPROVED):
            yield run.workflow_id, f"was {first.verdict} first, at {first.at}, but answers approved={run.approved}"
    yield from _decision_changes(observed)


def _decision_changes(observed: Observations) -> Findings:
    """The decision in consecutive tool answers and in the final report."""
    runs = {run.run_id: run for run in observed.runs}
    reported: dict[str, Decision] = {}
    for answer in observed.answers:
        content = answer.content or {}
        if content.get("decision") is None:
            continue
        run_id, decision = str(content.get("run_id")), Decision.model_validate(content["decision"])
        if not is_same_decision(reported.setdefault(run_id, decision), decision, runs.get(run_id)):
            yield str(content["workflow_id"]), f"its decision was reported as {reported[run_id]}, then as {decision}"
    for run in observed.runs:
        if run.report is not None and run.run_id in reported:
            last = run.report.decision
            if not is_same_decision(reported[run.run_id], last, run):
                yield run.workflow_id, f"its decision was reported as {reported[run.run_id]}, and finally as {last}"


def is_same_decision(one: Decision | None, other: Decision | None, run: Run | None) -> bool:
    """Whether two decisions of a run are equal, up to the time of a replay: see `ReceivedDecision`."""
    decided = run.trace.effective_decision if run else None
    if one is None or other is None or decided is None or one.at == other.at:
        return one == other
    return (
        one == other.model_copy(update={"at": one.at}) and decided.is_seen_at(one.at) and decided.is_seen_at(other.at)
    )


def s8(observed: Observations) -> Findings:
    for run in observed.runs:
        deadline, decided = run.trace.expires_by, run.trace.effective_decision
        report = run.report
        decision = report.decision if report else None
        if deadline is not None and decision is not None and decision.at >= deadline:
            yield run.workflow_id, f"took a decision at {decision.at}, after its deadline {deadline}"
        if run.status == Status.EXPIRED:
            yield from _expiry_errors(run)
        if decided is not None and run.temporal_status != "RUNNING" and not _is_honoured(decided, run):
            yield (
                run.workflow_id,
                f"was {decided.verdict} in time, at {decided.at}, but is {run.status}",
            )
        if (
            decided is not None
            and report is not None
            and report.decision is None
            and not _may_confirm_signal(decided, run)
        ):
            yield (
                run.workflow_id,
                f"was {decided.verdict} in time, at {decided.at}, but reports no decision",
            )
        if decided is None and decision is not None and run.trace.decisions:
            yield run.workflow_id, f"reports a decision ({decision.verdict}), but none came in time"
        if decided is None and run.status in {Status.REJECTED, Status.PAYING, Status.PAID}:
            yield run.workflow_id, f"is {run.status} without a decision in time"


def _expiry_errors(run: Run) -> Findings:
    trace = run.trace
    if trace.deadline is not None and trace.ended_at is not None and trace.ended_at < trace.deadline:
        yield run.workflow_id, f"expired at {trace.ended_at}, before its deadline {trace.deadline}"
    # The end may come later, if the worker was away. But the last workflow task must be scheduled in time.
    if (
        trace.expires_by is not None
        and trace.last_task_at is not None
        and trace.last_task_at >= trace.expires_by + _TIMER_TOLERANCE
    ):
        yield (
            run.workflow_id,
            f"expired by a task that was scheduled at {trace.last_task_at}, after its deadline {trace.deadline}",
        )


def _may_confirm_signal(decided: ReceivedDecision, run: Run) -> bool:
    """Whether a run was terminated that may have been about to confirm a signal."""
    return decided.by_signal and run.trace.end == "TERMINATED" and run.status == Status.PENDING_APPROVAL


def _is_honoured(decided: ReceivedDecision, run: Run) -> bool:
    """Whether the end of a run agrees with the decision. A run whose status can't be queried passes."""
    cancelled_at = run.trace.cancelled_at
    match run.status:
        case "":
            return True
        case Status.EXPIRED:
            return False
        case status if run.trace.is_interrupted or (run.trace.end == "TERMINATED" and not Status(status).is_terminal):
            # It was terminated before it could act on the decision.
            return True
        case Status.CANCELLED if cancelled_at is not None:
            # A rejection ends the invoice, so nothing is left to cancel unless both came in the same task.
            return decided.verdict is Verdict.APPROVED or cancelled_at <= decided.at
        case status:
            return (status == Status.REJECTED) == (decided.verdict is Verdict.REJECTED)
