"""Over HTTP, clients with forms are asked, and clients without are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client

from invoice_mcp.domain.report import Status
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.testing.model.actions import PROTOCOL_MODES
from invoice_mcp.testing.plugin import NewWorld
from tests.http_serving import MCP_HEADERS, connected, serve_in_process, url_of
from tests.requirements import requirement
from tests.tasks_client import ScriptedUser, build_server_for
from tests.tool_client import ToolClient

ASKING = (ApprovalPolicy.ASK, ApprovalPolicy.ASK_OR_REFUSE)


def client_at(port: int, protocol_mode: Any, person: ScriptedUser | None) -> Client:
    return Client(url_of(port), mode=protocol_mode, elicitation_callback=person)


@requirement("HTTP-SESSIONS", "CONFIRM-ASK", "TOOL-PROTOCOLS")
@pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)
async def test_the_person_is_asked_and_decides(new_world: NewWorld, protocol_mode: str) -> None:
    async with new_world() as world, serve_in_process(build_server_for(world)) as port:
        workflow_id = await world.submit()
        declining, confirming = ScriptedUser("decline"), ScriptedUser(approve=True)
        async with client_at(port, protocol_mode, declining) as client:
            assert (await ToolClient(client).refused("approve", workflow_id=workflow_id)).code == "NOT_CONFIRMED"
        assert len(declining.questions) == 1
        assert (await world.status()).decision is None
        async with client_at(port, protocol_mode, confirming) as client:
            await ToolClient(client).call("approve", workflow_id=workflow_id, approver="Ann")
        assert len(confirming.questions) == 1
        await world.until(Status.PAID)


@requirement("HTTP-SESSIONS", "CONFIRM-POLICY")
@pytest.mark.parametrize("policy", ASKING)
@pytest.mark.parametrize(
    "person", [ScriptedUser("decline"), ScriptedUser(approve=True), None], ids=["declines", "confirms", "none"]
)
async def test_without_sessions_a_client_of_the_older_protocol_is_refused_with_the_reason(
    new_world: NewWorld, policy: ApprovalPolicy, person: ScriptedUser | None
) -> None:
    async with new_world() as world, serve_in_process(build_server_for(world, approval=policy), sessions=False) as port:
        workflow_id = await world.submit()
        async with client_at(port, "legacy", person) as client:
            refused = await ToolClient(client).refused("approve", workflow_id=workflow_id)
            assert refused.code == "NOT_CONFIRMED"
            for remedy in ("no session", "2026-07-28", "stdio", "--no-sessions", "nothing was changed"):
                assert remedy in str(refused)
            # All else is served, a rejection too.
            assert (await world.status()).decision is None
            await ToolClient(client).call("reject", workflow_id=workflow_id)
        await world.until(Status.REJECTED)
    assert person is None or person.questions == []


@requirement("HTTP-SESSIONS", "CONFIRM-POLICY")
@pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)
async def test_clients_without_forms_are_served_by_the_policy(new_world: NewWorld, protocol_mode: str) -> None:
    async with new_world() as world:
        person = ScriptedUser("decline")
        async with (
            serve_in_process(build_server_for(world, approval=ApprovalPolicy.TRUST), sessions=False) as port,
            client_at(port, protocol_mode, person) as client,
        ):
            await ToolClient(client).call("approve", workflow_id=await world.submit())
            await world.until(Status.PAID)
        assert person.questions == []
        async with serve_in_process(build_server_for(world)) as port, client_at(port, protocol_mode, None) as client:
            await ToolClient(client).call("approve", workflow_id=await world.submit())
            await world.until(Status.PAID)
        refusing = build_server_for(world, approval=ApprovalPolicy.ASK_OR_REFUSE)
        async with serve_in_process(refusing) as port, client_at(port, protocol_mode, None) as client:
            refused = await ToolClient(client).refused("approve", workflow_id=await world.submit())
            assert refused.code == "NOT_CONFIRMED"
            assert "elicitation" in str(refused)
        await world.reject()


@requirement("HTTP-SESSIONS")
async def test_without_sessions_the_current_protocol_is_asked_by_any_server(new_world: NewWorld) -> None:
    person = ScriptedUser(approve=True)
    async with (
        new_world() as world,
        serve_in_process(build_server_for(world), sessions=False) as port,
        client_at(port, "auto", person) as client,
    ):
        await ToolClient(client).call("approve", workflow_id=await world.submit())
        await world.until(Status.PAID)
    assert len(person.questions) == 1


@requirement("HTTP-SESSIONS")
async def test_a_missing_header_does_not_bypass_the_confirmation(new_world: NewWorld) -> None:
    """A call as if of a session that never was; and one that claims the older protocol without any session."""
    async with new_world() as world:
        workflow_id = await world.submit()
        call = (
            '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "approve", "arguments": '
            f'{{"workflow_id": "{workflow_id}"}}}}}}'
        ).encode()
        for sessions in (True, False):
            async with serve_in_process(build_server_for(world), sessions=sessions) as port:
                for more in ((), ("Mcp-Protocol-Version: 2025-06-18",), ("Mcp-Session-Id: " + "0" * 32,)):
                    async with connected(port) as connection:
                        await connection.request(*MCP_HEADERS, *more, body=call)
                        status, _ = await connection.head()
                        answer = await connection.read(5) or b""
                    assert status in ({400, 404} if sessions else {200}), answer
                    assert sessions or b"NOT_CONFIRMED" in answer
        assert (await world.status()).decision is None
        await world.reject()
