"""A person decides: an approval that a model passes on is confirmed through the host, where it can ask."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    ElicitationCapability,
    ElicitResult,
    InputRequiredResult,
    MissingRequiredClientCapabilityErrorData,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from invoice_mcp.errors import Code, Refused
from invoice_mcp.questions import confirmation_request, is_confirmed
from invoice_mcp.reports import DecisionRequest, InvoiceReport

_NEEDS_FORMS = "this server approves only what a person has confirmed, and this client can't ask one"
_NO_WAY_TO_CLIENT = (
    "an approval is to be confirmed, and this server can't ask: it keeps no session with clients of a protocol before"
    " 2026-07-28. Connect over stdio, with a client of the current protocol, or to a server that was started without"
    " --no-sessions; nothing was changed."
)
_AGAIN = "Ask the user, and call approve again only if they want the question again; or call reject."


class ApprovalPolicy(StrEnum):
    """What happens before an approval counts: by the tool `approve`, or by the form of a task."""

    ASK = "ask"
    """The person confirms through the host; where it can't ask, the caller is taken at its word."""

    TRUST = "trust"
    """The caller is taken at its word."""

    ASK_OR_REFUSE = "ask-or-refuse"
    """The person confirms through the host; where it can't ask, the approval is refused."""


def asks(policy: ApprovalPolicy, ctx: Context[Any, Any]) -> bool:
    """Whether this caller's approval is to be confirmed.

    Raises:
        Refused: NOT_CONFIRMED, where it is and can't be.
    """
    if policy is ApprovalPolicy.TRUST:
        return False
    if not _has_way_to_client(ctx):
        raise Refused(Code.NOT_CONFIRMED, _NO_WAY_TO_CLIENT)
    if policy is ApprovalPolicy.ASK_OR_REFUSE and not _can_ask(ctx):
        raise Refused(Code.NOT_CONFIRMED, f"{_NEEDS_FORMS}. Use a host that can (elicitation); nothing was changed.")
    return _can_ask(ctx)


async def confirmed(
    report: InvoiceReport, decision: DecisionRequest, ctx: Context[Any, Any]
) -> InputRequiredResult | None:
    """Have the person confirm this approval of this very run.

    Returns:
        None to go on; or, in the current protocol, what the client has to be asked before it calls again.

    Raises:
        Refused: NOT_CONFIRMED.
    """
    if report.status.is_terminal or report.decision is not None:
        # Nothing is left to confirm: what comes now changes nothing, or is refused.
        return None
    answer = await (_answered if _is_current(ctx) else _asked)(report, decision, ctx)
    if isinstance(answer, InputRequiredResult):
        return answer
    if not is_confirmed(answer):
        raise Refused(Code.NOT_CONFIRMED, f"the user was asked and did not confirm; nothing was changed. {_AGAIN}")
    return None


def require_forms(policy: ApprovalPolicy, capabilities: ClientCapabilities | None) -> None:
    """Return if an approval may be taken that answers a form: who can't show one has had nobody fill it in.

    Raises:
        MCPError: -32021, under ASK_OR_REFUSE.
    """
    if policy is ApprovalPolicy.ASK_OR_REFUSE and not shows_forms(capabilities):
        needed = MissingRequiredClientCapabilityErrorData(
            required_capabilities=ClientCapabilities(elicitation=ElicitationCapability())
        )
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"NOT_CONFIRMED: {_NEEDS_FORMS}. Declare elicitation, or reject; nothing was changed.",
            needed.model_dump(by_alias=True, mode="json", exclude_none=True),
        )


def shows_forms(capabilities: ClientCapabilities | None) -> bool:
    """Whether the client says that it can show a form. `elicitation: {}` is the older way to say so."""
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _is_current(ctx: Context[Any, Any]) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _has_way_to_client(ctx: Context[Any, Any]) -> bool:
    """Whether a question can get to the client.

    Without a session there is none to a client of the older protocol; nor is it known then whether it can show a form,
    which it said when it connected, perhaps to another server. So it must not pass for one that can't.
    """
    return _is_current(ctx) or ctx.session.can_send_request


def _can_ask(ctx: Context[Any, Any]) -> bool:
    """Whether the client can show a form, and there is a way to it."""
    return shows_forms(ctx.client_capabilities) and _has_way_to_client(ctx)


async def _answered(
    report: InvoiceReport, decision: DecisionRequest, ctx: Context[Any, Any]
) -> ElicitResult | InputRequiredResult:
    """The current protocol: the answer comes with the call, or the call is answered with the question.

    Which question that was, its key tells: the run, whose content never changes, and what is kept with the approval. So
    any replica can go on with it, and an answer never counts for another invoice, name or comment than the person has
    seen.
    """
    words = sha256(decision.model_dump_json().encode()).hexdigest()[:16]
    key = f"approve-{report.run_id}-{words}"
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, ElicitResult):
        return answer
    return InputRequiredResult(input_requests={key: confirmation_request(report, decision)})


async def _asked(report: InvoiceReport, decision: DecisionRequest, ctx: Context[Any, Any]) -> ElicitResult:
    """The older protocol: the client is asked while it waits for its answer."""
    params: Any = confirmation_request(report, decision).params
    form = (params.message, params.requested_schema)
    try:
        answer: ElicitResult = await ctx.session.elicit_form(*form, related_request_id=ctx.request_id)
    except MCPError:
        raise Refused(Code.NOT_CONFIRMED, f"the client could not ask its user; nothing was changed. {_AGAIN}") from None
    return answer
