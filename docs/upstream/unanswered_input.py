"""Requests that a server of the MCP Python SDK leaves without an answer.

    pip install mcp
    python unanswered_input.py

Prints the answers to each line on stdin, to each body over HTTP, and to 300 pings before stdin ends. See
unanswered-input.md.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys

import anyio
import httpx2
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server

PARAMS = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
INITIALIZE = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": PARAMS})
INITIALIZED = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
DEEP = '{"x":' * 400 + "1" + "}" * 400
INPUT = {
    "400 levels": f'{{"jsonrpc":"2.0","id":"a","method":"ping","params":{DEEP}}}',
    "10**5000": f'{{"jsonrpc":"2.0","id":"a","method":"ping","params":{{"x":1{"0" * 5000}}}}}',
    "a lone surrogate": r'{"jsonrpc":"2.0","id":"a","method":"ping","params":{"x":"\ud800"}}',
    "id null": '{"jsonrpc":"2.0","id":null,"method":"ping"}',
    "id true": '{"jsonrpc":"2.0","id":true,"method":"ping"}',
    "id 1.5": '{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    "params []": '{"jsonrpc":"2.0","id":"a","method":"ping","params":[]}',
    "a batch": '[{"jsonrpc":"2.0","id":"a","method":"ping"}]',
    "no JSON": "garbage",
    "CR in JSON": '{"jsonrpc":\r"2.0","id":"a","method":"ping"}',
}


async def answers(*lines: str) -> list[str]:
    """The server's output for these lines and the end of stdin, without the answer to `initialize`."""
    server = MCPServer("raw", log_level="ERROR")._lowlevel_server  # noqa: SLF001 (MCPServer takes no streams)
    # As the SDK reads stdin: a carriage return ends a line too.
    stdin = anyio.wrap_file(io.StringIO("\n".join([INITIALIZE, INITIALIZED, *lines]), newline=None))
    stdout = io.StringIO()
    async with stdio_server(stdin, anyio.wrap_file(stdout)) as (messages, written):
        await server.run(messages, written, server.create_initialization_options())
    return [line for line in stdout.getvalue().splitlines() if '"id":0,' not in line]


async def over_http(body: str) -> str:
    """Status and body of the answer, in a session of the older protocol."""
    app = MCPServer("raw", log_level="ERROR").streamable_http_app()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, headers=headers) as client:
        begun = await client.post("http://localhost:8000/mcp", content=INITIALIZE)
        session = {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
        answer = await client.post("http://localhost:8000/mcp", content=body, headers=session)
    return f"{answer.status_code} {answer.text[:100]}"


async def main() -> int:
    """Print all answers; return how many inputs get none over stdio."""
    unanswered = 0
    for name, line in INPUT.items():
        # Blank lines, so that stdin does not end before the answer is written.
        answered = [each for each in await answers(line, *[""] * 50) if each]
        unanswered += not answered
        print(f"{name:17} stdio: {answered or 'no answer'}; HTTP: {await over_http(line)!r}")
    pings = [f'{{"jsonrpc":"2.0","id":{number},"method":"ping"}}' for number in range(1, 301)]
    print(f"300 pings, then stdin ends: {len(await answers(*pings))} answers")
    return unanswered


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)
