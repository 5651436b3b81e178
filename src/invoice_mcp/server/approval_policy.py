"""The policy for approvals: what an approval needs to count. Imports neither MCP nor Temporal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invoice_mcp.adapters.settings import PortSettings


class ApprovalPolicy(StrEnum):
    """What an approval needs to count, by the tool `approve` or by the form of a task. A rejection needs nothing.

    No policy proves that a person was present. A host shows a form to its user, but can also answer it by program.
    """

    ASK = "ask"
    """A client that shows forms has to answer one with yes, and is refused if the server can't send it one. A client
    that shows no forms needs no confirmation. Proves nothing: any client can leave out that it shows forms. The
    decision records which case it was (`Confirmation`)."""

    TRUST = "trust"
    """No confirmation is needed. Proves nothing."""

    ASK_OR_REFUSE = "ask-or-refuse"
    """A client has to answer a form with yes; a client that shows no forms is refused. Proves that the client was sent
    the text whose digest is kept (`Decision.shown`) and answered yes within the hour; not who answered."""

    @property
    def allows_approving_signals(self) -> bool:
        """Whether a Temporal signal, which asks nobody, may approve an invoice submitted under this policy."""
        return self is ApprovalPolicy.TRUST


EFFECT_WITHOUT_FORMS: Mapping[ApprovalPolicy, str] = MappingProxyType(
    {
        ApprovalPolicy.ASK: "A client that shows no forms may approve without confirmation",
        ApprovalPolicy.TRUST: "Every client may approve without confirmation",
        ApprovalPolicy.ASK_OR_REFUSE: "A client that shows no forms can't approve",
    }
)
"""What each policy means for a client that shows no forms: a sentence without its full stop."""


def default_policy(*, embedded_temporal: bool, ports: PortSettings) -> tuple[ApprovalPolicy, str]:
    """The policy if none was chosen, and the reason. Where money may be real, each approval needs an answered form.

    Args:
        embedded_temporal: Whether the embedded Temporal keeps the invoices; its workers then use `ports`.
    """
    if ports.has_real_port:
        return ApprovalPolicy.ASK_OR_REFUSE, "the ERP or the payment gateway is a real one"
    if not embedded_temporal:
        return ApprovalPolicy.ASK_OR_REFUSE, "this Temporal is a shared one, whose workers may pay real money"
    return ApprovalPolicy.ASK, "Temporal, ERP and payment gateway are the embedded ones, which pay nobody"
