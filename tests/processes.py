"""A process that a test starts and speaks to while it runs, and that outlives no test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def running_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process; at the end it is killed if it still runs, its pipes are closed, and it is waited for.

    Killed first: `Popen` by itself would wait for as long as it runs, also where the test has failed.

    Args:
        options: For `subprocess.Popen`. Its pipes carry text.
    """
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # what it did not read
                    process.stdin.close()
