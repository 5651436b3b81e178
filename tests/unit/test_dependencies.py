"""What the code imports is declared: nothing is there only because something else happens to need it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import invoice_mcp

SOURCES = Path(invoice_mcp.__file__).parents[1]
PACKAGE = SOURCES / "invoice_mcp"
OURS = {"invoice_mcp", "mcp_temporal_tasks", "temporal_replay", "temporal_simulator"}
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Which distribution an import comes from, where several share a namespace.
OF_NAMESPACE = {"google": "protobuf"}


def declared(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[\[<>=;\s]", requirement)[0]) for requirement in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path, leave_out: str = "") -> set[str]:
    """The distributions that the modules below a folder import from, wherever in them they do."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if leave_out and leave_out in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    known = packages_distributions()
    foreign = found - sys.stdlib_module_names - OURS
    return {_normal(OF_NAMESPACE.get(name) or known[name][0]) for name in foreign}


def test_what_the_product_imports_is_declared() -> None:
    for folder in (PACKAGE, SOURCES / "mcp_temporal_tasks"):
        assert imported(folder, leave_out="testing") - declared(PROJECT["dependencies"]) == set()


def test_what_the_harness_imports_is_declared() -> None:
    extra = declared(PROJECT["optional-dependencies"]["testing"])
    for folder in (PACKAGE / "testing", SOURCES / "temporal_replay", SOURCES / "temporal_simulator"):
        assert imported(folder) - declared(PROJECT["dependencies"]) - extra == set()


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    """The session `lowest` installs exactly these."""
    assert re.match(r"[\w-]+(\[\w+\])?>=\d", requirement)
