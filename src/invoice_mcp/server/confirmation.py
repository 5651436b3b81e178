"""Confirmation of approvals: the form that the client has to answer before an approval counts."""

from __future__ import annotations

import time
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    MissingRequiredClientCapabilityErrorData,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.report import Confirmation, DecisionRequest, InvoiceReport
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.forms import confirmation_request, message_of, why_not_confirmed
from invoice_mcp.service.form_keys import FormKeys, text_digest

_NEEDS_FORMS = "this server accepts an approval only with an answered form"
_NO_FORMS = "this client does not declare that it shows forms (elicitation)"
_CLIENT_UNREACHABLE = (
    "an approval has to be confirmed, and this server can't ask: it keeps no session with clients of a protocol before"
    " 2026-07-28. Connect over stdio, with a client of the current protocol, or to a server that was started without"
    " --no-sessions; nothing was changed."
)
_ASK_THE_USER = "Ask the user, and call approve again only if they want the question again; or call reject."


def client_name(ctx: ServerRequestContext[Any, Any]) -> str:
    """Return who decided if the caller names nobody: the MCP client, by the name that it declares; never a person."""
    params = ctx.session.client_params
    name = params.client_info.name if params else ""
    return f"the client {name[:100]}" if name.isprintable() and name.strip() else "an MCP client"


def needs_confirmation(policy: ApprovalPolicy, ctx: Context[Any, Any]) -> bool:
    """Whether the approval of this caller needs a confirmation."""
    if policy is ApprovalPolicy.TRUST:
        return False
    return policy is ApprovalPolicy.ASK_OR_REFUSE or _can_ask(ctx) or not _can_reach_client(ctx)


def awaits_decision(report: InvoiceReport) -> bool:
    """Whether a decision would take effect. Otherwise it changes nothing or is refused."""
    return report.workflow_status == "RUNNING" and not report.status.is_terminal and report.decision is None


async def confirm_approval(
    report: InvoiceReport, decision: DecisionRequest, keys: FormKeys, ctx: Context[Any, Any]
) -> DecisionRequest | InputRequiredResult:
    """Have the client confirm this approval of the report's run.

    Args:
        keys: The question keys of the report's run.

    Returns:
        The confirmed decision; or, in the current protocol, the form that the client has to answer before it calls
        again.

    Raises:
        RefusedError: NOT_CONFIRMED.
    """
    if not _can_reach_client(ctx):
        raise RefusedError(ErrorCode.NOT_CONFIRMED, _CLIENT_UNREACHABLE)
    if not _can_ask(ctx):
        remedy = "Approve from a host that shows forms; nothing was changed."
        raise RefusedError(ErrorCode.NOT_CONFIRMED, f"{_NEEDS_FORMS}, and {_NO_FORMS}. {remedy}")
    request = confirmation_request(report, decision)
    if not _is_current(ctx):
        answer, shown = await _elicit(request, ctx), text_digest(message_of(request))
    elif (found := _find_answer(ctx, keys, decision)) is not None:
        answer, shown = found
    else:
        key = keys.confirmation_key(decision, text_digest(message_of(request)), int(time.time()))
        return InputRequiredResult(input_requests={key: request})
    if (why := why_not_confirmed(answer)) is not None:
        raise RefusedError(ErrorCode.NOT_CONFIRMED, f"{why}; nothing was changed. {_ASK_THE_USER}")
    return decision.model_copy(update={"confirmation": Confirmation.FORM, "shown": shown})


def require_forms(policy: ApprovalPolicy, capabilities: ClientCapabilities | None) -> None:
    """Check that a client which answers a task's form with an approval declares that it shows forms.

    Raises:
        MCPError: -32021, under ASK_OR_REFUSE.
    """
    if policy is ApprovalPolicy.ASK_OR_REFUSE and not supports_forms(capabilities):
        needed = MissingRequiredClientCapabilityErrorData(
            required_capabilities=ClientCapabilities(elicitation=ElicitationCapability())
        )
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"NOT_CONFIRMED: {_NEEDS_FORMS}, and {_NO_FORMS}. Declare elicitation, or reject; nothing was changed.",
            needed.model_dump(by_alias=True, mode="json", exclude_none=True),
        )


def supports_forms(capabilities: ClientCapabilities | None) -> bool:
    """Whether the client declares that it shows forms. `elicitation: {}` is the older form of that declaration."""
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _is_current(ctx: Context[Any, Any]) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _can_reach_client(ctx: Context[Any, Any]) -> bool:
    """Whether the server can send the client a question.

    A client of the older protocol needs a session for that. Without one its capabilities are unknown, too: it declared
    them when it connected, perhaps to another server. So it must not be treated as a client that shows no forms.
    """
    return _is_current(ctx) or ctx.session.can_send_request


def _can_ask(ctx: Context[Any, Any]) -> bool:
    """Whether the client shows forms and can be sent one."""
    return supports_forms(ctx.client_capabilities) and _can_reach_client(ctx)


def _find_answer(ctx: Context[Any, Any], keys: FormKeys, decision: DecisionRequest) -> tuple[ElicitResult, str] | None:
    """Current protocol: return the form answer that came with the call, and the digest of the text shown; or None.

    The key of the answer identifies the question: the run, whose content never changes, the name, the comment and the
    time. So any replica accepts it, and no other answer counts.
    """
    for key, answer in (ctx.input_responses or {}).items():
        shown = keys.verify_confirmation(key, decision, time.time())
        if shown is not None and isinstance(answer, ElicitResult):
            return answer, shown
    return None


async def _elicit(request: ElicitRequest, ctx: Context[Any, Any]) -> ElicitResult:
    """Older protocol: ask the client on its session while its call is open."""
    params: Any = request.params
    form = (params.message, params.requested_schema)
    try:
        answer: ElicitResult = await ctx.session.elicit_form(*form, related_request_id=ctx.request_id)
    except MCPError:
        raise RefusedError(
            ErrorCode.NOT_CONFIRMED, f"the client did not answer the form; nothing was changed. {_ASK_THE_USER}"
        ) from None
    except ValidationError:
        raise RefusedError(
            ErrorCode.NOT_CONFIRMED,
            f"the client's answer to the form is invalid; nothing was changed. {_ASK_THE_USER}",
        ) from None
    return answer
