"""Every requirement has a test, and every id in a test is a requirement."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.requirements import REQUIREMENTS, requirement

TESTS = Path(__file__).parents[1]


def ids_named_in(source: str) -> set[str]:
    """Return the ids in the `@requirement(...)` marks of the tests in this source."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "requirement":
                    named |= {str(argument.value) for argument in mark.args if isinstance(argument, ast.Constant)}
    return named


def test_every_requirement_has_a_test_and_every_id_used_exists() -> None:
    named = set().union(*(ids_named_in(path.read_text(encoding="utf-8")) for path in TESTS.rglob("test_*.py")))
    assert named == set(REQUIREMENTS)


def test_an_id_that_does_not_exist_is_refused_where_it_is_used() -> None:
    with pytest.raises(KeyError):
        requirement("NO-SUCH-BEHAVIOUR")


def test_only_marks_on_tests_count() -> None:
    source = "@requirement('A', 'B')\nasync def test_a() -> None: ...\n\n@requirement('C')\ndef helper() -> None: ...\n"
    assert ids_named_in(source) == {"A", "B"}
