"""The pytest plugin: the option `--world`, and fixtures that give worlds. The only file that knows pytest.

Put `pytest_plugins = ["invoice_mcp.testing.plugin"]` into your outermost conftest.py, and run your tests in the
session's event loop, in which the engine lives (`asyncio_default_test_loop_scope = "session"` for pytest-asyncio):

    async def test_a_rejected_invoice_is_never_paid(new_world):
        async with new_world() as world:
            await world.submit(("100.00", PAST_DUE))
            await world.reject()
            await world.until("REJECTED")

An engine of your own takes part in `--world` once it is registered: see `invoice_mcp.testing.register`.
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
"""Makes a world for one scenario: `async with new_world() as world`. It takes the keywords of `open_world`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--world`."""
    try:
        kinds()
    except ValueError as broken:
        raise pytest.UsageError(str(broken)) from None
    about = "; ".join(f"{kind.name}: {kind.about}" for kind in kinds().values())
    parser.getgroup("invoice-mcp", "invoices").addoption(
        "--world",
        choices=tuple(kinds()),
        default=next(iter(kinds())),
        help=f"where scenarios take place. {about} (default: %(default)s)",
    )
    parser.getgroup("invoice-mcp", "invoices").addoption(
        "--client-interface",
        choices=CLIENT_INTERFACES,
        default=CLIENT_INTERFACES[0],
        help="how invoices are submitted, decided and cancelled: by the plain tools, or by the MCP task where that is "
        "to be had (default: %(default)s)",
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def invoice_environments(request: pytest.FixtureRequest) -> AsyncIterator[EnvironmentPool]:
    """The stage for all scenarios of this process, on the engine that `--world` names. Started when first used."""
    pool = EnvironmentPool(kinds()[request.config.getoption("--world")])
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_invoice_environments() -> AsyncIterator[EnvironmentPool]:
    """The stage on the real server, where `--world` names another."""
    pool = EnvironmentPool(kinds()["real"])
    yield pool
    await pool.close()


@pytest.fixture
def new_world(request: pytest.FixtureRequest, invoice_environments: EnvironmentPool) -> NewWorld:
    """A factory of worlds. One at a time; enter it in the test itself."""
    return partial(open_world, invoice_environments, client_interface=request.config.getoption("--client-interface"))


@pytest.fixture
def real_world(request: pytest.FixtureRequest) -> NewWorld:
    """As `new_world`, on the real server: for what needs `list`, exact deadlines, or a worker that is away."""
    environment = (
        "invoice_environments" if request.config.getoption("--world") == "real" else "real_invoice_environments"
    )
    return partial(
        open_world,
        request.getfixturevalue(environment),
        client_interface=request.config.getoption("--client-interface"),
    )
