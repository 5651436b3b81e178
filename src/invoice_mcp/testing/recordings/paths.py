"""The paths that the workflows of invoices can take, as data: each is recorded once a release."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing.recordings import plays as acts
from invoice_mcp.testing.recordings.scene import Scene


@dataclass(frozen=True)
class InvoicePath:
    """One way through the workflows.

    Attributes:
        name: Of its recordings: `<name>.json` for the invoice, `<name>.line-<n>.json` for a line.
        about: What happens, in half a line.
        play: Plays it, and returns where it is to be recorded.
        lines: Numbers of the lines whose own workflows are recorded too.
        approval_timeout: How long its invoice waits for a decision.
        signals_approve: Whether the signal ApproveInvoice approves it, by its policy.
        records_invoice: False: only lines.
    """

    name: str
    about: str
    play: Callable[[Scene], Awaitable[None]]
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
    InvoicePath("approved-and-paid", "approved, and every line paid at once", acts.approved_and_paid, lines=(1,)),
    InvoicePath("paid-after-due-dates", "lines wait for their due dates", acts.paid_after_due_dates, lines=(1, 2)),
    InvoicePath("paid-after-a-century", "a due date further off than any timer", acts.paid_after_a_century, lines=(1,)),
    InvoicePath("one-line-refused", "one line is refused, the other one paid", acts.one_line_refused, lines=(2,)),
    InvoicePath("all-lines-refused", "every line is refused", acts.all_lines_refused),
    InvoicePath("erp-retried", "the ERP is down at first", acts.erp_retried),
    InvoicePath("erp-mismatch", "the ERP refuses", acts.erp_mismatch),
    InvoicePath("erp-unreachable", "the ERP stays down", acts.erp_unreachable),
    InvoicePath("payment-retried", "the gateway is down at first", acts.payment_retried, lines=(1,)),
    InvoicePath("payment-unconfirmed", "the gateway stays down", acts.payment_unconfirmed, lines=(1,)),
    InvoicePath(
        "payment-refused-again",
        "an answer of the gateway is lost, and the repeated request refused",
        acts.payment_refused_again,
        lines=(1,),
    ),
    InvoicePath("rejected", "rejected", acts.rejected),
    InvoicePath("expired", "nobody decides", acts.expired),
    InvoicePath(
        "another-window",
        "nobody decides, and the window is another than the default",
        acts.expired,
        approval_timeout=timedelta(hours=36),
    ),
    InvoicePath(
        "decided-too-late",
        "decided after the deadline, while no worker was there",
        acts.decided_too_late,
        signals_approve=True,
    ),
    InvoicePath(
        "decided-at-the-last-moment",
        "approved just before the deadline, which is later by as long as the ERP took",
        acts.decided_at_the_last_moment,
    ),
    InvoicePath("updated-too-late", "approved by an update in the same task as the deadline", acts.updated_too_late),
    InvoicePath("decided-early", "approved before the validation has ended", acts.decided_early),
    InvoicePath("rejected-early", "rejected before the validation has ended", acts.rejected_early),
    InvoicePath("cancelled-early", "cancelled before the validation has ended", acts.cancelled_early),
    InvoicePath("cancelled-while-waiting", "cancelled while it waits for a decision", acts.cancelled_while_waiting),
    InvoicePath(
        "cancelled-while-paying",
        "cancelled while one line is being paid and another one waits for its due date",
        acts.cancelled_while_paying,
        lines=(1, 2),
    ),
    InvoicePath(
        "approved-by-signal", "decided by the signal ApproveInvoice", acts.approved_by_signal, signals_approve=True
    ),
    InvoicePath(
        "approving-signal-refused",
        "the policy refuses the signal ApproveInvoice, and a person approves",
        acts.approving_signal_refused,
    ),
    InvoicePath(
        "approving-signal-refused-after-an-upgrade",
        "a policy of release 0.1.0, an approving signal, and a person approves",
        acts.approving_signal_refused_after_an_upgrade,
    ),
    InvoicePath("rejected-by-signal", "decided by the signal RejectInvoice", acts.rejected_by_signal),
    InvoicePath(
        "repeated-and-opposite-decision",
        "the approval is repeated, a rejection refused, a signal ignored",
        acts.repeated_and_opposite_decision,
    ),
    InvoicePath("form-dismissed", "a task's form is dismissed, and then the invoice approved", acts.form_dismissed),
    InvoicePath(
        "worker-crashed",
        "the worker crashes while one line waits, another one is being paid, and comes back",
        acts.worker_crashed,
        lines=(1, 2),
    ),
    InvoicePath("rejected-and-cancelled", "rejected and cancelled in one task", acts.rejected_and_cancelled),
    InvoicePath(
        "approved-and-cancelled",
        "approved and cancelled in one task",
        acts.approved_and_cancelled,
        signals_approve=True,
    ),
    InvoicePath("line-ended-from-outside", "an operator terminates a line", acts.line_ended_from_outside),
    InvoicePath(
        "line-cancelled-from-outside",
        "an operator cancels a line while it is being paid, and one that waits",
        acts.line_cancelled_from_outside,
        lines=(1, 2),
    ),
    InvoicePath(
        "line-cancelled-before-it-begins",
        "an operator cancels a line that is due before its first task",
        acts.line_cancelled_before_it_begins,
        lines=(1,),
        records_invoice=False,
    ),
    InvoicePath("line-id-taken", "another workflow has the id of a line", acts.line_id_taken),
    InvoicePath("not-indexed", "where the server has no search attribute InvoiceStatus", acts.not_indexed),
    InvoicePath("started-with-garbage", "started behind trigger's back with no invoice", acts.started_with_garbage),
    InvoicePath(
        "line-started-with-garbage",
        "started by hand with no payment order",
        acts.line_started_with_garbage,
        lines=(1,),
        records_invoice=False,
    ),
    InvoicePath("still-waiting-for-approval", "nobody has decided yet", acts.still_waiting_for_approval),
    InvoicePath(
        "still-waiting-for-due-date",
        "approved, one line paid, the other one not due yet",
        acts.still_waiting_for_due_date,
        lines=(2,),
    ),
)
"""Every path, in the order in which they are told."""
