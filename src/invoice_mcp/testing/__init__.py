"""The scenario harness: tests of the invoice server, and of projects that build on it. Independent of pytest.

    from invoice_mcp.testing import PAST_DUE, EnvironmentPool, kinds, open_world

    async with EnvironmentPool(kinds()["simulated"]) as pool, open_world(pool) as world:
        await world.submit(("100.00", PAST_DUE))
        await world.approve()
        await world.until("PAID")

At the end of the block every invoice runs to its end, and the checker judges the run. With pytest, use the fixtures of
`invoice_mcp.testing.plugin` instead. Each name is imported on first use, so that the replay gate does not import an MCP
client; `__init__.pyi` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
