"""How a program that used an engine ends."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn


def run_and_leave(
    main: Coroutine[Any, Any, int | None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> NoReturn:
    """Run a program to its end, and leave with the exit status it returns; 1, with a traceback, if it raises.

    The threads of Temporal's SDK may abort a process that ends by itself, after all is done and said
    (temporalio/sdk-python#300), and its exit status would be theirs.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            status = runner.run(main) or 0
    except KeyboardInterrupt:
        status = 130
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
