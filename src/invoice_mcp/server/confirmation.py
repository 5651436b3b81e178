"""Who confirms an approval: the policies, and the question to the client before an approval counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

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
from invoice_mcp.server.forms import confirmation_request, message_of, why_not_confirmed
from invoice_mcp.service.form_keys import FormKeys, text_digest

if TYPE_CHECKING:
    # It brings Temporal's client with it, for which no first answer waits.
    from invoice_mcp.adapters.settings import PortSettings

_NEEDS_FORMS = "this server takes an approval only with an answered form"
_NO_FORMS = "this client does not declare that it shows forms (elicitation)"
_CLIENT_UNREACHABLE = (
    "an approval is to be confirmed, and this server can't ask: it keeps no session with clients of a protocol before"
    " 2026-07-28. Connect over stdio, with a client of the current protocol, or to a server that was started without"
    " --no-sessions; nothing was changed."
)
_ASK_THE_USER = "Ask the user, and call approve again only if they want the question again; or call reject."


class ApprovalPolicy(StrEnum):
    """What an approval needs to count, by the tool `approve` or by the form of a task. A rejection needs nothing.

    None of them proves that a person was there. An answered form is consent as far as the host is to be trusted: a
    host shows the form to its user, but may as well answer it by program. What they do prove is told with each.
    """

    ASK = "ask"
    """A client that shows forms has to answer one with yes, and is refused where the server has no way to send it one;
    a client that shows none is taken at its word. Proves nothing: any client can leave out that it shows forms. The
    decision tells which it was (`Confirmation`)."""

    TRUST = "trust"
    """The caller is taken at its word. Proves nothing."""

    ASK_OR_REFUSE = "ask-or-refuse"
    """A client has to answer a form with yes; one that doesn't show forms is refused. Proves that the client was given
    the text whose digest is kept (`Decision.shown`), and answered it with yes within the hour; not who did."""

    @property
    def allows_approving_signals(self) -> bool:
        """Whether Temporal's signals, which ask nobody, may approve what is submitted under this policy."""
        return self is ApprovalPolicy.TRUST


EFFECT_WITHOUT_FORMS: Mapping[ApprovalPolicy, str] = MappingProxyType(
    {
        ApprovalPolicy.ASK: "A client that shows no forms is taken at its word",
        ApprovalPolicy.TRUST: "Every client is taken at its word",
        ApprovalPolicy.ASK_OR_REFUSE: "A client that shows no forms is refused",
    }
)
"""What each policy means for a client that shows no forms, in a sentence without its end."""


def default_policy(*, embedded_temporal: bool, ports: PortSettings) -> tuple[ApprovalPolicy, str]:
    """The policy where none was chosen, and why: no approval without an answered form where money may be real.

    Args:
        embedded_temporal: Whether the invoices are kept by the embedded Temporal, whose workers have these ports.
    """
    if ports.has_real_port:
        return ApprovalPolicy.ASK_OR_REFUSE, "the ERP or the payment gateway is a real one"
    if not embedded_temporal:
        return ApprovalPolicy.ASK_OR_REFUSE, "this Temporal is a shared one, whose workers may pay real money"
    return ApprovalPolicy.ASK, "Temporal, ERP and payment gateway are the embedded ones, which pay nobody"


def client_name(ctx: ServerRequestContext[Any, Any]) -> str:
    """Who decided, when nobody says: the MCP client, by the name it gives itself. It speaks of no person."""
    params = ctx.session.client_params
    name = params.client_info.name if params else ""
    return f"the client {name[:100]}" if name.isprintable() and name.strip() else "an MCP client"


def needs_confirmation(policy: ApprovalPolicy, ctx: Context[Any, Any]) -> bool:
    """Whether this caller's approval of an invoice that waits for one has to be confirmed."""
    if policy is ApprovalPolicy.TRUST:
        return False
    return policy is ApprovalPolicy.ASK_OR_REFUSE or _can_ask(ctx) or not _can_reach_client(ctx)


def awaits_decision(report: InvoiceReport) -> bool:
    """Whether a decision would change anything. Else what comes now has no effect, or is refused."""
    return report.workflow_status == "RUNNING" and not report.status.is_terminal and report.decision is None


async def confirm_approval(
    report: InvoiceReport, decision: DecisionRequest, keys: FormKeys, ctx: Context[Any, Any]
) -> DecisionRequest | InputRequiredResult:
    """Have the client confirm this approval of this very run.

    Args:
        keys: Of the report's run.

    Returns:
        The decision as it was confirmed; or, in the current protocol, what the client has to be asked before it calls
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
    """Return if an approval may be taken that answers a form: who can't show one has had nobody fill it in.

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
    """Whether the client says that it can show a form. `elicitation: {}` is the older way to say so."""
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _is_current(ctx: Context[Any, Any]) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _can_reach_client(ctx: Context[Any, Any]) -> bool:
    """Whether a question can get to the client.

    Without a session there is none to a client of the older protocol; nor is it known then whether it can show a form,
    which it said when it connected, perhaps to another server. So it must not pass for one that can't.
    """
    return _is_current(ctx) or ctx.session.can_send_request


def _can_ask(ctx: Context[Any, Any]) -> bool:
    """Whether the client can show a form, and there is a way to it."""
    return supports_forms(ctx.client_capabilities) and _can_reach_client(ctx)


def _find_answer(ctx: Context[Any, Any], keys: FormKeys, decision: DecisionRequest) -> tuple[ElicitResult, str] | None:
    """The current protocol: the answer to this server's question that came with the call, and the digest of what was
    shown; None: there is none, and the call is answered with the question.

    Which question that was, its key tells: about which run, whose content never changes, which name and comment, and
    when. So any replica goes on with it, and nothing else counts.
    """
    for key, answer in (ctx.input_responses or {}).items():
        shown = keys.verify_confirmation(key, decision, time.time())
        if shown is not None and isinstance(answer, ElicitResult):
            return answer, shown
    return None


async def _elicit(request: ElicitRequest, ctx: Context[Any, Any]) -> ElicitResult:
    """The older protocol: the client is asked while it waits for its answer, which comes on the same session."""
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
            f"the client's answer to the form was not understood; nothing was changed. {_ASK_THE_USER}",
        ) from None
    return answer
