"""Errors of calls to Temporal, as clients of tasks get them."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from mcp_temporal_tasks.errors import mcp_errors


async def test_a_client_that_can_not_connect_is_a_json_rpc_error() -> None:
    with pytest.raises(MCPError, match="can't be reached") as raised:
        async with mcp_errors(1):
            raise RuntimeError("Failed client connect: refused")
    assert raised.value.error.code == INTERNAL_ERROR


async def test_a_programming_error_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="changed size"):
        async with mcp_errors(1):
            raise RuntimeError("dictionary changed size during iteration")
