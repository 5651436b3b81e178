"""The pytest plugin: options for the engine and the client interface, and fixtures that open worlds.

Put `pytest_plugins = ["invoice_mcp.testing.plugin"]` into your outermost conftest.py, and run your tests in the
session's event loop, in which the engine runs (`asyncio_default_test_loop_scope = "session"` for pytest-asyncio):

    async def test_a_rejected_invoice_is_never_paid(new_world):
        async with new_world() as world:
            await world.submit(("100.00", PAST_DUE))
            await world.reject()
            await world.until("REJECTED")

`--world` also offers the engines that you add with `invoice_mcp.testing.register`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
import pytest_asyncio

from invoice_mcp.testing.engines.registry import kinds
from invoice_mcp.testing.model.actions import CLIENT_INTERFACES
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.world import World, open_world

NewWorld = Callable[..., AbstractAsyncContextManager[World]]
"""Opens a world for one scenario: `async with new_world() as world`. It takes the keyword arguments of `open_world`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--world` and `--client-interface`."""
    try:
        kinds()
    except ValueError as broken:
        raise pytest.UsageError(str(broken)) from None
    about = "; ".join(f"{kind.name}: {kind.about}" for kind in kinds().values())
    parser.getgroup("invoice-mcp", "invoices").addoption(
        "--world",
        choices=tuple(kinds()),
        default=next(iter(kinds())),
        help=f"the engine that runs scenarios. {about} (default: %(default)s)",
    )
    parser.getgroup("invoice-mcp", "invoices").addoption(
        "--client-interface",
        choices=CLIENT_INTERFACES,
        default=CLIENT_INTERFACES[0],
        help="how the client submits, decides and cancels: with the plain tools, or with MCP tasks where there is one "
        "(default: %(default)s)",
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def invoice_environments(request: pytest.FixtureRequest) -> AsyncIterator[EnvironmentPool]:
    """The test environments of this process, on the engine of `--world`. Started on first use."""
    pool = EnvironmentPool(kinds()[request.config.getoption("--world")])
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_invoice_environments() -> AsyncIterator[EnvironmentPool]:
    """The test environments on the real server, if `--world` names another engine."""
    pool = EnvironmentPool(kinds()["real"])
    yield pool
    await pool.close()


@pytest.fixture
def new_world(request: pytest.FixtureRequest, invoice_environments: EnvironmentPool) -> NewWorld:
    """Opens worlds, one at a time. Enter them in the test itself."""
    return partial(open_world, invoice_environments, client_interface=request.config.getoption("--client-interface"))


@pytest.fixture
def real_world(request: pytest.FixtureRequest) -> NewWorld:
    """As `new_world`, on the real server: for tests that need `list`, exact deadlines or a stopped worker."""
    pool = "invoice_environments" if request.config.getoption("--world") == "real" else "real_invoice_environments"
    return partial(
        open_world,
        request.getfixturevalue(pool),
        client_interface=request.config.getoption("--client-interface"),
    )
