"""The harness: what a test of invoices, or of anything built on them, needs. Free of pytest.

Each part is loaded when it is first used: the replay gate need not wait for an MCP client. The .pyi says what there is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
