"""Which Temporal is meant, and what is said where there is none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from invoice_mcp.errors import ConfigurationError
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.temporal import TemporalSettings, configured, connection
from tests.desk import Desk, an_invoice
from tests.requirements import requirement

PROFILES = """
[profile.default]
address = "default.example:7233"
[profile.prod]
address = "prod.example:7233"
namespace = "payables"
"""


@requirement("TEMPORAL-CHOICE")
def test_where_nothing_is_set_the_embedded_server_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert configured(TemporalSettings()) is None


@requirement("TEMPORAL-CHOICE")
def test_the_environment_is_read_and_flags_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "env.example:7233")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "env")
    assert configured(TemporalSettings()) == {"target_host": "env.example:7233", "namespace": "env"}
    assert configured(TemporalSettings(address="flag:1", namespace="flag")) == {
        "target_host": "flag:1",
        "namespace": "flag",
    }


@requirement("TEMPORAL-CHOICE")
def test_profiles_and_keys_are_temporals_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text(PROFILES)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    assert configured(TemporalSettings(profile="prod")) == {
        "target_host": "prod.example:7233",
        "namespace": "payables",
        "api_key": "secret",
        "tls": True,
    }


@requirement("TEMPORAL-CHOICE")
def test_a_namespace_without_address_is_looked_for_where_temporals_tools_look() -> None:
    assert configured(TemporalSettings(namespace="payables")) == {
        "target_host": "localhost:7233",
        "namespace": "payables",
    }


def test_a_profile_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)nope.*TEMPORAL_PROFILE"):
        configured(TemporalSettings(profile="nope"))


@requirement("TEMPORAL-AWAY")
async def test_every_tool_says_within_ten_seconds_that_temporal_is_away(invoice_id: str) -> None:
    async with connection(TemporalSettings(address="127.0.0.1:1")) as reached:
        async with Client(build_server(InvoiceService(reached.client))) as client:
            desk = Desk(client)
            calls: dict[str, dict[str, Any]] = {
                "trigger": {"invoice": an_invoice(invoice_id)},
                "status": {"workflow_id": "invoice-A", "wait_seconds": 50},
                "approve": {"workflow_id": "invoice-A"},
                "reject": {"workflow_id": "invoice-A"},
                "cancel": {"workflow_id": "invoice-A"},
                "list": {},
            }
            for tool, arguments in calls.items():
                began = time.monotonic()
                refused = await desk.refused(tool, **arguments)
                assert time.monotonic() - began < 10
                assert refused.code == "TEMPORAL_UNAVAILABLE"
                assert "Check that it runs" in str(refused)
        with pytest.raises(RuntimeError, match="connect"):
            await reached.worker_client()
