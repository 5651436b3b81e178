"""The paths through the invoice workflows, as data. Each release records every path once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing.recordings import scripts
from invoice_mcp.testing.recordings.context import PathContext


@dataclass(frozen=True)
class InvoicePath:
    """One path through the workflows.

    Attributes:
        name: Its recordings are `<name>.json` for the invoice and `<name>.line-<n>.json` for a line.
        about: What happens, in half a line.
        script: Plays the path and stops where it is recorded.
        lines: Numbers of the lines whose workflows are recorded, too.
        approval_timeout: How long the invoice waits for a decision.
        signals_approve: Whether its policy lets the signal ApproveInvoice approve it.
        records_invoice: Whether the invoice is recorded; else only lines are.
    """

    name: str
    about: str
    script: Callable[[PathContext], Awaitable[None]]
    lines: tuple[int, ...] = ()
    approval_timeout: timedelta = field(default=DEFAULT_APPROVAL_TIMEOUT)
    signals_approve: bool = False
    records_invoice: bool = True

    def recordings(self) -> dict[str, str]:
        """Names and descriptions of its recordings."""
        invoice = {self.name: f"InvoiceWorkflow: {self.about}"} if self.records_invoice else {}
        lines = {f"{self.name}.line-{n}": f"PayLineItem of line {n}: {self.about}" for n in self.lines}
        return {**invoice, **lines}


PATHS: tuple[InvoicePath, ...] = (
    InvoicePath("approved-and-paid", "approved, and every line paid at once", scripts.approved_and_paid, lines=(1,)),
    InvoicePath("paid-after-due-dates", "lines wait for their due dates", scripts.paid_after_due_dates, lines=(1, 2)),
    InvoicePath(
        "paid-after-a-century", "a due date further off than any timer", scripts.paid_after_a_century, lines=(1,)
    ),
    InvoicePath("one-line-refused", "one line is refused, the other one paid", scripts.one_line_refused, lines=(2,)),
    InvoicePath("all-lines-refused", "every line is refused", scripts.all_lines_refused),
    InvoicePath("erp-retried", "the ERP is down at first", scripts.erp_retried),
    InvoicePath("erp-mismatch", "the ERP refuses", scripts.erp_mismatch),
    InvoicePath("erp-unreachable", "the ERP stays down", scripts.erp_unreachable),
    InvoicePath("payment-retried", "the gateway is down at first", scripts.payment_retried, lines=(1,)),
    InvoicePath("payment-unconfirmed", "the gateway stays down", scripts.payment_unconfirmed, lines=(1,)),
    InvoicePath(
        "payment-refused-again",
        "an answer of the gateway is lost, and the repeated request refused",
        scripts.payment_refused_again,
        lines=(1,),
    ),
    InvoicePath("rejected", "rejected", scripts.rejected),
    InvoicePath("expired", "nobody decides", scripts.expired),
    InvoicePath(
        "another-window",
        "nobody decides, and the window is another than the default",
        scripts.expired,
        approval_timeout=timedelta(hours=36),
    ),
    InvoicePath(
        "decided-too-late",
        "decided after the deadline, while no worker was there",
        scripts.decided_too_late,
        signals_approve=True,
    ),
    InvoicePath(
        "decided-at-the-last-moment",
        "approved just before the deadline, which is later by as long as the ERP took",
        scripts.decided_at_the_last_moment,
    ),
    InvoicePath("updated-too-late", "approved by an update in the same task as the deadline", scripts.updated_too_late),
    InvoicePath("decided-early", "approved before the validation has ended", scripts.decided_early),
    InvoicePath("rejected-early", "rejected before the validation has ended", scripts.rejected_early),
    InvoicePath("cancelled-early", "cancelled before the validation has ended", scripts.cancelled_early),
    InvoicePath("cancelled-while-waiting", "cancelled while it waits for a decision", scripts.cancelled_while_waiting),
    InvoicePath(
        "cancelled-while-paying",
        "cancelled while one line is being paid and another one waits for its due date",
        scripts.cancelled_while_paying,
        lines=(1, 2),
    ),
    InvoicePath(
        "approved-by-signal", "decided by the signal ApproveInvoice", scripts.approved_by_signal, signals_approve=True
    ),
    InvoicePath(
        "approving-signal-refused",
        "the policy refuses the signal ApproveInvoice, and a person approves",
        scripts.approving_signal_refused,
    ),
    InvoicePath(
        "approving-signal-refused-after-an-upgrade",
        "a policy of release 0.1.0, an approving signal, and a person approves",
        scripts.approving_signal_refused_after_an_upgrade,
    ),
    InvoicePath("rejected-by-signal", "decided by the signal RejectInvoice", scripts.rejected_by_signal),
    InvoicePath(
        "repeated-and-opposite-decision",
        "the approval is repeated, a rejection refused, a signal ignored",
        scripts.repeated_and_opposite_decision,
    ),
    InvoicePath("form-dismissed", "a task's form is dismissed, and then the invoice approved", scripts.form_dismissed),
    InvoicePath(
        "worker-crashed",
        "the worker crashes while one line waits, another one is being paid, and comes back",
        scripts.worker_crashed,
        lines=(1, 2),
    ),
    InvoicePath("rejected-and-cancelled", "rejected and cancelled in one task", scripts.rejected_and_cancelled),
    InvoicePath(
        "approved-and-cancelled",
        "approved and cancelled in one task",
        scripts.approved_and_cancelled,
        signals_approve=True,
    ),
    InvoicePath("line-ended-from-outside", "an operator terminates a line", scripts.line_ended_from_outside),
    InvoicePath(
        "line-cancelled-from-outside",
        "an operator cancels a line while it is being paid, and one that waits",
        scripts.line_cancelled_from_outside,
        lines=(1, 2),
    ),
    InvoicePath(
        "line-cancelled-before-it-begins",
        "an operator cancels a line that is due before its first task",
        scripts.line_cancelled_before_it_begins,
        lines=(1,),
        records_invoice=False,
    ),
    InvoicePath("line-id-taken", "another workflow has the id of a line", scripts.line_id_taken),
    InvoicePath("not-indexed", "where the server has no search attribute InvoiceStatus", scripts.not_indexed),
    InvoicePath("started-with-garbage", "started behind trigger's back with no invoice", scripts.started_with_garbage),
    InvoicePath(
        "line-started-with-garbage",
        "started by hand with no payment order",
        scripts.line_started_with_garbage,
        lines=(1,),
        records_invoice=False,
    ),
    InvoicePath("still-waiting-for-approval", "nobody has decided yet", scripts.still_waiting_for_approval),
    InvoicePath(
        "still-waiting-for-due-date",
        "approved, one line paid, the other one not due yet",
        scripts.still_waiting_for_due_date,
        lines=(2,),
    ),
)
"""Every path, in the order of recording."""
