"""Child processes that never outlive their test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def running_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process; at the end kill it, close its pipes and wait for it.

    `Popen` alone would wait until the process ends, also after the test has failed.

    Args:
        options: For `subprocess.Popen`; pipes are in text mode.
    """
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # the process did not read all input
                    process.stdin.close()
