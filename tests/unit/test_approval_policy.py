"""The policy of approvals: where none is chosen, what money may be real decides."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from invoice_mcp.adapters.settings import PortSettings
from invoice_mcp.cli.backend import BackendSource, Configuration
from invoice_mcp.server.approval_policy import EFFECT_WITHOUT_FORMS, ApprovalPolicy, default_policy
from invoice_mcp.temporal.connection import TemporalSettings
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


@requirement("CONFIRM-DEFAULT")
@pytest.mark.parametrize("chosen", ApprovalPolicy)
def test_a_policy_that_is_chosen_is_told_where_it_is_not_the_default(
    chosen: ApprovalPolicy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "invoice_mcp")
    temporal, ports = TemporalSettings(home=tmp_path), PortSettings(tmp_path)
    source = BackendSource(temporal, ports, timedelta(days=5), chosen, with_worker=False)
    assert source.select_policy(Configuration(temporal, ports, None)) is chosen
    told = [f"Approvals: --approval={chosen}, as chosen. {EFFECT_WITHOUT_FORMS[chosen]}"]
    assert caplog.messages == ([] if chosen is ApprovalPolicy.ASK else told)


@requirement("CONFIRM-POLICY")
def test_signals_approve_under_trust_only() -> None:
    assert [policy for policy in ApprovalPolicy if policy.allows_approving_signals] == [ApprovalPolicy.TRUST]
