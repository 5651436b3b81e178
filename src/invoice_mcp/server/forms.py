"""The forms that ask a person about an invoice, and the parsing of the answers. Independent of Temporal."""

from __future__ import annotations

from typing import Literal, TypeVar

from mcp.server.elicitation import render_elicitation_schema
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult
from pydantic import BaseModel, Field, ValidationError

from invoice_mcp.domain.display_text import plain_or_quoted, quoted
from invoice_mcp.domain.invoice import MAX_COMMENT, MAX_NAME, Comment, Person, describe_faults
from invoice_mcp.domain.report import DecisionRequest, InvoiceReport, LineReport
from invoice_mcp.domain.summary import format_time

T = TypeVar("T", bound=BaseModel)

# People approve long forms unread. Further lines are shown as one sum.
MAX_FORM_LINES = 50

_AFTER_DISMISSAL = (
    "The last form was dismissed or declined, which decides nothing. To reject the invoice, choose reject and send the "
    "form.\n\n"
)


class DecisionForm(BaseModel):
    """The form of an invoice that waits for approval."""

    decision: Literal["approve", "reject"] = Field(
        title="Decision", description="approve: every line is paid on its due date. reject: nothing is paid. Final."
    )
    comment: Comment = Field(default="", title="Comment", description="Why; kept with the decision")
    name: Person = Field(default="", title="Your name", description="Kept as you write it; default: your client's name")


class ConfirmationForm(BaseModel):
    """The form that confirms an approval passed on by a caller, usually a model."""

    # Strict: Pydantic would accept "on" or 1 as a yes.
    approve: bool = Field(
        strict=True, title="Approve and pay", description="Yes: every line is paid on its due date. Final."
    )


def decision_request(report: InvoiceReport, dismissals: int = 0) -> ElicitRequest:
    """Return the form that asks for a decision. After a dismissed form it first says that this decided nothing."""
    return _build_form(f"{_AFTER_DISMISSAL if dismissals else ''}Approve or reject {describe(report)}", DecisionForm)


def confirmation_request(report: InvoiceReport, decision: DecisionRequest) -> ElicitRequest:
    """Return the form that asks to confirm an approval in this name and with this comment."""
    comment = f"\nComment: {quoted(decision.comment, MAX_COMMENT)}" if decision.comment else ""
    head = f"Your assistant wants to approve, in the name of {quoted(decision.by)}, "
    return _build_form(f"{head}{describe(report)}{comment}", ConfirmationForm)


def describe(report: InvoiceReport) -> str:
    """Describe the invoice: id, amount, customer, deadline and lines. Texts of the invoice are quoted."""
    what = f"invoice {plain_or_quoted(report.invoice_id)}: pay {plain_or_quoted(report.currency)} {report.total:,}"
    head = f"{what} to {quoted(report.customer, MAX_NAME)}."
    until = f" It expires on {format_time(report.approval_deadline)}." if report.approval_deadline else ""
    shown, rest = report.lines[:MAX_FORM_LINES], report.lines[MAX_FORM_LINES:]
    lines = [_line(report, line) for line in shown]
    if rest:
        amount = sum(line.amount for line in rest)
        settled = sum(line.settled_before for line in rest)
        before = f" ({settled} of them earlier submissions paid, or perhaps did)" if settled else ""
        lines.append(f"… and {len(rest)} more lines, together {report.currency} {amount:,}{before}")
    return "\n".join([head + until, *lines])


def read_decision(answer: ElicitResult) -> DecisionForm | None:
    """Return the decision; None if there is none: to dismiss or decline a form is no rejection.

    Raises:
        ValueError: The content of the answer is invalid.
    """
    if answer.action == "accept":
        return _parse_form(DecisionForm, answer)
    # A declined form rejects the invoice only if its content says so.
    decision = (answer.content or {}).get("decision")
    return _parse_form(DecisionForm, answer) if answer.action == "decline" and decision == "reject" else None


def why_not_confirmed(answer: ElicitResult) -> str | None:
    """Return why the answer does not confirm the approval; None if it does.

    The text is about the client, not about a person: some clients dismiss every form by themselves.
    """
    if answer.action != "accept":
        what = f"nobody confirmed: the client answered {answer.action!r} to the form"
        return f"{what} (hosts without a screen do so by themselves)"
    try:
        return None if _parse_form(ConfirmationForm, answer).approve else "the form was answered with no"
    except ValueError:
        return "the form came back without a yes or no"


def message_of(request: ElicitRequest) -> str:
    """Return the text above the form's fields."""
    return request.params.message


def _build_form(message: str, form: type[BaseModel]) -> ElicitRequest:
    rendered = render_elicitation_schema(form)
    # Without title and description, which are the class name and the docstring.
    schema = {key: rendered[key] for key in ("type", "properties", "required")}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _parse_form(form: type[T], answer: ElicitResult) -> T:
    try:
        # A field of null counts as missing.
        return form.model_validate({name: value for name, value in (answer.content or {}).items() if value is not None})
    except ValidationError as error:
        raise ValueError(describe_faults(error)) from None


def _line(report: InvoiceReport, line: LineReport) -> str:
    before = " (an earlier submission paid it, or perhaps did; it is not paid twice)" if line.settled_before else ""
    what = (
        f"{quoted(line.description, MAX_NAME)}: {report.currency} {line.amount:,}, due on {format_time(line.due_date)}"
    )
    return f"{line.line}. {what}{before}"
