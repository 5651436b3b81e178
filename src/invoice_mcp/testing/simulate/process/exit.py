"""Runs a program that uses an engine, and ends its process."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from invoice_mcp.exit import exit_process


def run_and_exit(
    main: Coroutine[Any, Any, int | None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> NoReturn:
    """Run a program to its end, and exit with the status it returns; 1, with a traceback, if it raises.

    A process that has used an engine must end by `exit_process`.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            status = runner.run(main) or 0
    except KeyboardInterrupt:
        status = 130
    except Exception:  # noqa: BLE001 (any error is reported)
        traceback.print_exc()
        status = 1
    exit_process(status)
