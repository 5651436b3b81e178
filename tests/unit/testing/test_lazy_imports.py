"""Lazy imports of the harness."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from invoice_mcp import testing


def test_the_replay_gate_does_not_import_the_harness() -> None:
    code = "import sys, temporal_replay; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"mcp", "hypothesis", "faker", "pytest"} & set(loaded.split())


def test_the_stub_lists_exactly_the_public_names() -> None:
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    stub = ast.parse(Path(testing.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(testing.__all__)
