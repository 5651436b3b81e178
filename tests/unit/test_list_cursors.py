"""The cursors of `list`: opaque texts that only fit the list they come from."""

from __future__ import annotations

import anyio
import pytest
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.report import Status
from invoice_mcp.service.list_cursors import decode_cursor, encode_cursor
from temporal_simulator import Simulation, connect
from tests.requirements import requirement

TOKEN = b'{"CloseTime":"9999-12-31T23:59:59Z","RunID":"01a2234e"}\xff'
CURSOR = encode_cursor(TOKEN, Status.PAID)


@requirement("LIST-PAGES")
def test_a_cursor_is_one_plain_word_and_gives_the_token_back() -> None:
    assert CURSOR.isascii()
    assert CURSOR.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(CURSOR, Status.PAID) == TOKEN
    assert decode_cursor(encode_cursor(TOKEN, None), None) == TOKEN
    assert decode_cursor("", None) == b""


@requirement("LIST-PAGES")
@pytest.mark.parametrize(
    "cursor",
    ["x", "null", CURSOR[:-1], CURSOR[1:], CURSOR + "=", CURSOR + "\n", CURSOR.lower(), "\ud800", "é", "A" * 9],
)
def test_what_is_no_cursor_of_this_list_is_refused(cursor: str) -> None:
    with pytest.raises(RefusedError, match=r"INVALID_ARGUMENT: cursor: .* same status.*first page"):
        decode_cursor(cursor, Status.PAID)


@requirement("LIST-PAGES")
@pytest.mark.parametrize("status", [Status.FAILED, None])
def test_a_cursor_of_another_list_is_refused(status: Status | None) -> None:
    with pytest.raises(RefusedError, match="INVALID_ARGUMENT"):
        decode_cursor(CURSOR, status)


async def pages_of(client: Client, size: int, *, meanwhile: dict[int, str] | None = None) -> list[list[str]]:
    """The ids on each page; behind the page of that number, terminate this one, and begin another one."""
    found = client.list_workflows("WorkflowType = 'Paged'", page_size=size)
    pages: list[list[str]] = []
    while not pages or found.next_page_token:
        await found.fetch_next_page()
        pages.append([each.id for each in found.current_page or ()])
        if ended := (meanwhile or {}).get(len(pages)):
            await client.get_workflow_handle(ended).terminate()
            await client.start_workflow("Paged", id=f"since {ended}", task_queue="nobody's")
    return pages


@requirement("LIST-PAGES", "ENGINES-AGREE")
@pytest.mark.parametrize("engine", ["simulated", "real"])
async def test_pages_go_on_behind_the_last_execution_shown(engine: str, real_client: Client) -> None:
    client = connect(Simulation()) if engine == "simulated" else real_client
    for number in range(6):
        await client.start_workflow("Paged", id=f"t{number}", task_queue="nobody's")
    await client.get_workflow_handle("t1").terminate()

    async def shows(count: int) -> list[WorkflowExecution]:
        listed = [each async for each in client.list_workflows("WorkflowType = 'Paged'")]
        return listed if sum(each.close_time is not None for each in listed) == count else []

    with anyio.fail_after(5):
        while not await shows(1):
            await anyio.sleep(0.01)
    # The full last page is followed by an empty one.
    assert await pages_of(client, 3) == [["t5", "t4", "t3"], ["t2", "t0", "t1"], []]
    # What is shown already, and ends, is shown once more; what is still to come, and ends, is not lost.
    seen = [each for page in await pages_of(client, 2, meanwhile={1: "t5", 2: "t0"}) for each in page]
    assert set(seen) >= {f"t{number}" for number in range(6)}
    assert {each for each in seen if seen.count(each) > 1} <= {"t5", "t0"}


@requirement("ENGINES-AGREE")
async def test_a_token_that_is_none_is_an_error_on_the_simulator_too() -> None:
    client = connect(Simulation())
    with pytest.raises(RPCError, match="page token"):
        await client.list_workflows(page_size=1, next_page_token=b"{").fetch_next_page()


@requirement("LIST-PAGES")
@pytest.mark.parametrize("length", range(1, 13))
def test_a_token_of_any_length_comes_back(length: int) -> None:
    token = bytes(range(length))
    assert decode_cursor(encode_cursor(token, None), None) == token
