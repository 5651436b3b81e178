"""Which Temporal is meant, and what is said where there is none."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from temporalio.client import Client as TemporalClient
from temporalio.client import (
    CountWorkflowsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.adapters.settings import PortSettings
from invoice_mcp.domain.errors import ConfigurationError, ErrorCode, RefusedError
from invoice_mcp.domain.names import TASK_QUEUE
from invoice_mcp.server.tools import build_server
from invoice_mcp.service.errors import ANSWER_WITHIN, shared_deadline, temporal_calls
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.temporal.connection import Connection, TemporalSettings, load_client_config, open_connection
from invoice_mcp.temporal.embedded import EmbeddedTemporal
from invoice_mcp.temporal.probe import Probe
from invoice_mcp.testing.plugin import NewWorld
from tests.requirements import requirement
from tests.tool_client import ToolClient, an_invoice

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
    assert load_client_config(TemporalSettings()) is None


@requirement("TEMPORAL-CHOICE")
def test_a_web_ui_of_ours_is_refused_where_another_temporal_is_configured() -> None:
    with pytest.raises(ConfigurationError, match="--ui is for the embedded Temporal"):
        load_client_config(TemporalSettings(address="temporal.example:7233", ui=True))


@requirement("TEMPORAL-CHOICE")
def test_the_environment_is_read_and_flags_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "env.example:7233")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "env")
    assert load_client_config(TemporalSettings()) == {"target_host": "env.example:7233", "namespace": "env"}
    assert load_client_config(TemporalSettings(address="flag:1", namespace="flag")) == {
        "target_host": "flag:1",
        "namespace": "flag",
    }


@requirement("TEMPORAL-CHOICE")
def test_profiles_and_keys_are_temporals_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text(PROFILES)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    assert load_client_config(TemporalSettings(profile="prod")) == {
        "target_host": "prod.example:7233",
        "namespace": "payables",
        "api_key": "secret",
        "tls": True,
    }


@requirement("TEMPORAL-CHOICE")
def test_a_namespace_without_address_is_looked_for_where_temporals_tools_look() -> None:
    assert load_client_config(TemporalSettings(namespace="payables")) == {
        "target_host": "localhost:7233",
        "namespace": "payables",
    }


@pytest.mark.parametrize("address", ["", "%%garbage text", "host:99999", "host", ":7233", "http://host:1", "a b:1"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    if address:
        with pytest.raises(ConfigurationError, match=r"host:port.*TEMPORAL_ADDRESS"):
            load_client_config(TemporalSettings(address=address))
    else:
        assert load_client_config(TemporalSettings(address=address)) is None


@pytest.mark.parametrize("name", ["typo.toml", 300 * "x"], ids=["missing", "too long"])
def test_a_file_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    # Else the embedded server would be meant, and payments only pretended.
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / name))
    with pytest.raises(ConfigurationError, match=rf"(?s){name}.*TEMPORAL_CONFIG_FILE"):
        load_client_config(TemporalSettings())


def test_a_profile_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)nope.*TEMPORAL_PROFILE"):
        load_client_config(TemporalSettings(profile="nope"))


async def every_tool_answers_within_ten_seconds(reached: Connection) -> str:
    """The one code that every tool answers with, all asked at once."""
    began = time.monotonic()
    calls: dict[str, dict[str, Any]] = {
        "trigger": {"invoice": an_invoice("A")},
        "status": {"workflow_id": "invoice-A", "wait_seconds": 50},
        "approve": {"workflow_id": "invoice-A"},
        "reject": {"workflow_id": "invoice-A"},
        "cancel": {"workflow_id": "invoice-A"},
        "list": {},
    }
    async with Client(build_server(InvoiceService(reached.client))) as client:
        refused = await asyncio.gather(
            *(ToolClient(client).refused(tool, **arguments) for tool, arguments in calls.items())
        )
    assert time.monotonic() - began < 10
    assert all("then try again" in str(refusal) for refusal in refused)
    (code,) = {refusal.code for refusal in refused}
    return code


@requirement("TEMPORAL-DOWN")
async def test_nobody_listens() -> None:
    async with open_connection(TemporalSettings(address="127.0.0.1:1")) as reached:
        assert await every_tool_answers_within_ten_seconds(reached) == "TEMPORAL_UNAVAILABLE"
        with pytest.raises(RuntimeError, match="connect"):
            await reached.worker_client()


@requirement("TEMPORAL-DOWN")
async def test_somebody_listens_and_never_answers() -> None:
    # The system takes the connections; that nobody takes them up leaves nothing to be closed.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with open_connection(TemporalSettings(address=address)) as reached:
            assert await every_tool_answers_within_ten_seconds(reached) == "TEMPORAL_UNAVAILABLE"


@requirement("TEMPORAL-DOWN")
async def test_the_namespace_does_not_exist(tmp_path: Path) -> None:
    async with (
        EmbeddedTemporal(tmp_path / "home") as embedded,
        open_connection(TemporalSettings(address=embedded.endpoint.address, namespace="nope")) as reached,
    ):
        assert await every_tool_answers_within_ten_seconds(reached) == "TEMPORAL_UNAVAILABLE"


@requirement("LIST-INDEX")
async def test_the_worker_registers_the_search_attribute_where_it_is_missing(tmp_path: Path) -> None:
    async with (
        EmbeddedTemporal(tmp_path / "home", search_attributes={}) as embedded,
        open_connection(TemporalSettings(address=embedded.endpoint.address)) as reached,
    ):
        assert not await Probe(reached.client).indexes_status()
        assert await Probe(reached.client).register_status_index()
        assert await Probe(reached.client).indexes_status()
        assert await Probe(reached.client).register_status_index()


@requirement("LIST-INDEX")
@pytest.mark.usefixtures("server_without_list")
async def test_where_the_attribute_can_not_be_registered_the_worker_says_so(
    new_world: NewWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_world() as world:
        assert not await Probe(world.client).register_status_index()
    assert "search-attribute create --name InvoiceStatus --type Keyword" in caplog.text


class Busy(Interceptor):
    """Of a client whose server has too much to do to count."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        class Refusing(OutboundInterceptor):
            async def count_workflows(self, input: CountWorkflowsInput) -> NoReturn:
                raise RPCError("busy", RPCStatusCode.RESOURCE_EXHAUSTED, b"")

        return Refusing(next)


@requirement("LIST-INDEX")
async def test_a_server_that_is_busy_has_not_said_that_the_attribute_is_missing(real_client: TemporalClient) -> None:
    # Else an invoice that is submitted then could never be found by its status.
    config = real_client.config()
    config["interceptors"] = [Busy()]
    busy = TemporalClient(**config)
    with pytest.raises(RPCError, match="busy"):
        await Probe(busy).indexes_status()


REFUSALS = [
    (RPCError("no poller seen for task queue recently", RPCStatusCode.FAILED_PRECONDITION, b""), "NO_WORKER"),
    (RPCError("gone", RPCStatusCode.NOT_FOUND, b""), "NOT_FOUND"),
    (RPCError("token expired", RPCStatusCode.UNAUTHENTICATED, b""), "TEMPORAL_UNAVAILABLE"),
    (RPCError("no such right", RPCStatusCode.PERMISSION_DENIED, b""), "TEMPORAL_UNAVAILABLE"),
    (RPCError("busy", RPCStatusCode.RESOURCE_EXHAUSTED, b""), "NO_WORKER"),
    (RPCError("broken", RPCStatusCode.DATA_LOSS, b""), "INTERNAL"),
    (RPCError("what?", RPCStatusCode.UNKNOWN, b""), "INTERNAL"),
    (RPCError("transport error", RPCStatusCode.UNKNOWN, b""), "TEMPORAL_UNAVAILABLE"),
    (RPCError("h2 protocol error: error reading a body", RPCStatusCode.INTERNAL, b""), "TEMPORAL_UNAVAILABLE"),
    (RPCError("database or disk is full (13)", RPCStatusCode.UNAVAILABLE, b""), "TEMPORAL_UNAVAILABLE"),
    (RPCError("Workflow Task in failed state.", RPCStatusCode.FAILED_PRECONDITION, b""), "NO_ANSWER"),
    (WorkflowQueryFailedError("no such query"), "INTERNAL"),
    (WorkflowUpdateFailedError(ApplicationError("late", type="ALREADY_CLOSED")), "ALREADY_CLOSED"),
    (WorkflowUpdateFailedError(ApplicationError("what?", type="Unheard")), "INTERNAL"),
    (RefusedError(ErrorCode.INVOICE_CONFLICT, "taken"), "INVOICE_CONFLICT"),
    (TimeoutError(), "NO_WORKER"),
]


@requirement("TOOL-CODES")
@pytest.mark.parametrize(("error", "code"), REFUSALS, ids=lambda value: value if isinstance(value, str) else "")
async def test_whatever_temporal_answers_becomes_a_code(
    real_client: TemporalClient, error: Exception, code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        async with temporal_calls(Probe(real_client)):
            raise error
    assert refused.value.code == code


async def test_several_requests_for_one_answer_share_its_time(real_client: TemporalClient) -> None:
    async def waits_in_vain() -> None:
        with pytest.raises(RefusedError, match=r"NO_WORKER: No answer came in time.* no worker polls"):
            async with temporal_calls(Probe(real_client)):
                await anyio.sleep_forever()

    with shared_deadline(seconds=0.05):
        await waits_in_vain()
        # What a person takes to answer in between does not count; but nothing is left of the time.
        await asyncio.wait_for(waits_in_vain(), ANSWER_WITHIN - 1)
    with shared_deadline():
        async with temporal_calls(Probe(real_client)):
            await anyio.lowlevel.checkpoint()


async def test_what_is_not_temporals_doing_is_not_explained_away(real_client: TemporalClient) -> None:
    with pytest.raises(RuntimeError, match="ours"):
        async with temporal_calls(Probe(real_client)):
            raise RuntimeError("a fault of ours")


def test_a_worker_that_only_pretends_to_pay_stays_away_from_a_shared_temporal(tmp_path: Path) -> None:
    pretending = PortSettings(home=tmp_path, erp_url="https://erp.example")
    with pytest.raises(ConfigurationError, match=r"PAYMENTS_URL not set.*--embedded-ports"):
        pretending.require_real_ports(is_local=False)
    pretending.require_real_ports(is_local=True)
    replace(pretending, allow_embedded=True).require_real_ports(is_local=False)
    replace(pretending, payments_url="https://bank.example").require_real_ports(is_local=False)
    # As a script writes it whose variable is not set.
    with pytest.raises(ConfigurationError, match=r"PAYMENTS_URL not set"):
        replace(pretending, payments_url="").require_real_ports(is_local=False)


def test_hosts_with_other_payment_systems_never_work_for_each_other(tmp_path: Path) -> None:
    plain = PortSettings(home=tmp_path)
    real = replace(plain, payments_url="https://bank.example")
    queues = {settings.task_queue(is_embedded=True) for settings in (plain, real, replace(real, erp_url="https://erp"))}
    assert len(queues) == 3
    assert {settings.task_queue(is_embedded=False) for settings in (plain, real)} == {TASK_QUEUE}


def test_a_gateway_is_the_same_with_another_password_and_another_one_with_another_account(tmp_path: Path) -> None:
    def queue(url: str) -> str:
        return PortSettings(home=tmp_path, payments_url=url).task_queue(is_embedded=True)

    same = (
        "https://acme:old@bank.example/api",
        "https://acme:new@BANK.example:443/api/",
        "https://acme@bank.example/api",
    )
    assert len({queue(url) for url in same}) == 1
    others = (
        "https://bank.example/api",
        "https://bank.example:8443/api",
        "https://other:old@bank.example/api",
        "http://:x",
    )
    assert len({queue(url) for url in (same[0], *others)}) == 5


@requirement("TEMPORAL-CHOICE")
@pytest.mark.parametrize(
    ("address", "is_local"),
    [("localhost:1", True), ("127.0.0.1:1", True), ("[::1]:1", True), ("db.example:1", False)],
)
async def test_a_temporal_elsewhere_is_known_as_such(address: str, is_local: bool) -> None:
    async with open_connection(TemporalSettings(address=address)) as reached:
        assert (reached.is_local, reached.is_embedded) == (is_local, False)


@requirement("TEMPORAL-CHOICE")
@pytest.mark.parametrize("variable", ["TEMPORAL_API_KEY", "TEMPORAL_TLS"])
async def test_what_needs_a_key_is_nobodys_toy_even_through_a_tunnel(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    async with open_connection(TemporalSettings(address="localhost:1")) as reached:
        assert not reached.is_local
