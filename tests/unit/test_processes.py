"""`running_process`."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.processes import running_process


def test_a_process_does_not_outlive_a_test_that_fails() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        pytest.raises(ZeroDivisionError),
        running_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL
    assert process.stdin
    assert process.stdout
    assert process.stdin.closed
    assert process.stdout.closed


def test_input_that_a_process_did_not_read_is_no_error() -> None:
    command = [sys.executable, "-c", "import os; os.close(0); print('closed')"]
    with running_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "closed\n"
        process.stdin.write("nobody reads this")
    assert process.returncode is not None
