"""The rules of deciding, S3 and S8: which decision counts, and until when. Pure."""

from __future__ import annotations

from datetime import timedelta

from invoice_mcp.domain.report import Decision, Status, Verdict
from invoice_mcp.testing.checker.history import ReceivedDecision
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import Findings

# A real server fires timers up to a second late; what is added here is for a machine under load.
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
    """What the tools told of a decision, one after another and in the end."""
    runs = {run.run_id: run for run in observed.runs}
    told: dict[str, Decision] = {}
    for answer in observed.answers:
        content = answer.content or {}
        if content.get("decision") is None:
            continue
        run_id, decision = str(content.get("run_id")), Decision.model_validate(content["decision"])
        if not is_same_decision(told.setdefault(run_id, decision), decision, runs.get(run_id)):
            yield str(content["workflow_id"]), f"its decision was told as {told[run_id]}, then as {decision}"
    for run in observed.runs:
        if run.report is not None and run.run_id in told:
            last = run.report.decision
            if not is_same_decision(told[run.run_id], last, run):
                yield run.workflow_id, f"its decision was told as {told[run.run_id]}, and is {last} in the end"


def is_same_decision(one: Decision | None, other: Decision | None, run: Run | None) -> bool:
    """Whether both are the same decision of that run, if also seen at the time of a replay: see `ReceivedDecision`."""
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
                f"was {decided.verdict} in time, at {decided.at}, but tells no decision",
            )
        if decided is None and decision is not None and run.trace.decisions:
            yield run.workflow_id, f"tells a decision ({decision.verdict}), and none came in time"
        if decided is None and run.status in {Status.REJECTED, Status.PAYING, Status.PAID}:
            yield run.workflow_id, f"is {run.status} without a decision in time"


def _expiry_errors(run: Run) -> Findings:
    trace = run.trace
    if trace.deadline is not None and trace.ended_at is not None and trace.ended_at < trace.deadline:
        yield run.workflow_id, f"expired at {trace.ended_at}, before its deadline {trace.deadline}"
    # Not when it ended: its worker may have been away. But something roused it in time, or nothing did.
    if (
        trace.expires_by is not None
        and trace.last_task_at is not None
        and trace.last_task_at >= trace.expires_by + _TIMER_TOLERANCE
    ):
        yield (
            run.workflow_id,
            f"was roused at {trace.last_task_at} only to expire, after its deadline {trace.deadline}",
        )


def _may_confirm_signal(decided: ReceivedDecision, run: Run) -> bool:
    """Whether somebody ended a run over the workflow's head that may have been about to confirm a signal."""
    return decided.by_signal and run.trace.end == "TERMINATED" and run.status == Status.PENDING_APPROVAL


def _is_honoured(decided: ReceivedDecision, run: Run) -> bool:
    """Whether a run ended as this decision allows. One that can't be asked how it ended is not judged."""
    cancelled_at = run.trace.cancelled_at
    match run.status:
        case "":
            return True
        case Status.EXPIRED:
            return False
        case status if run.trace.is_interrupted or (run.trace.end == "TERMINATED" and not Status(status).is_terminal):
            # Somebody ended it before it could go on.
            return True
        case Status.CANCELLED if cancelled_at is not None:
            # A rejection ends the invoice: there is nothing left to cancel, unless both came at once.
            return decided.verdict is Verdict.APPROVED or cancelled_at <= decided.at
        case status:
            return (status == Status.REJECTED) == (decided.verdict is Verdict.REJECTED)
