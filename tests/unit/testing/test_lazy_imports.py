"""What the harness loads, and when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from invoice_mcp import testing


def test_the_replay_gate_does_not_wait_for_what_it_does_not_need() -> None:
    told = "import sys, temporal_replay; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"mcp", "hypothesis", "faker", "pytest"} & set(loaded.split())


def test_everything_that_is_told_to_be_there_is() -> None:
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    stub = ast.parse(Path(testing.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(testing.__all__)
