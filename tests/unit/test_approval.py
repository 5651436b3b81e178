"""The policy of approvals where none was chosen: what money may be real, decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from invoice_mcp.approval import ApprovalPolicy, default_policy
from invoice_mcp.ports import PortSettings
from tests.requirements import requirement

ASK, ASK_OR_REFUSE = ApprovalPolicy.ASK, ApprovalPolicy.ASK_OR_REFUSE


@requirement("CONFIRM-DEFAULT")
@pytest.mark.parametrize(
    ("embedded_temporal", "urls", "policy", "why"),
    [
        (True, {}, ASK, "which pay nobody"),
        (True, {"payments_url": "http://bank"}, ASK_OR_REFUSE, "is a real one"),
        (True, {"erp_url": "http://erp"}, ASK_OR_REFUSE, "is a real one"),
        (True, {"erp_url": "http://erp", "payments_url": "http://bank"}, ASK_OR_REFUSE, "is a real one"),
        # A server without a worker is told no URLs: others may pay for it.
        (False, {}, ASK_OR_REFUSE, "a shared one"),
        (False, {"allow_embedded": True}, ASK_OR_REFUSE, "a shared one"),
        (False, {"payments_url": "http://bank"}, ASK_OR_REFUSE, "is a real one"),
    ],
)
def test_the_default_is_safe_where_money_may_be_real(
    embedded_temporal: bool, urls: dict[str, str | bool], policy: ApprovalPolicy, why: str
) -> None:
    ports = PortSettings(home=Path("nowhere"), **urls)  # type: ignore[arg-type]
    chosen, told = default_policy(embedded_temporal=embedded_temporal, ports=ports)
    assert chosen is policy
    assert why in told
