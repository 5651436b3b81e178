"""Finds the patches that workflow source asks for, from its syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

_CALLS = ("patched", "deprecate_patch")


def find_patches(workflows: Iterable[type]) -> tuple[dict[str, str], int]:
    """Find the patch calls in the source of workflows: their modules, and what these import of the same package.

    A patch id is found if it is a literal, or a constant reachable from the module. Replay finds the others; see
    `measure_patch_usage`.

    Returns:
        `patched` or `deprecate_patch` by patch id, and the number of calls whose id could not be read.
    """
    found: dict[str, str] = {}
    unresolved = 0
    for module, tree in _modules_of(workflows):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (call := _called_name(node.func)) in _CALLS:
                given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "id")]
                if name := _constant_text(given[0], module) if given else "":
                    found = merge_calls(found, {name: call})
                else:
                    unresolved += 1
    return found, unresolved


def merge_calls(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Merge two mappings of `find_patches`. `patched` wins: a patch deprecated in one place still has two branches."""
    return {
        name: "patched" if "patched" in (one.get(name), other.get(name)) else "deprecate_patch"
        for name in {**one, **other}
    }


def _modules_of(workflows: Iterable[type]) -> Iterator[tuple[ModuleType, ast.Module]]:
    """The modules of workflows and, transitively, what they import of the same top-level package."""
    queue = sorted({workflow.__module__ for workflow in workflows})
    packages, seen = {name.partition(".")[0] for name in queue}, set(queue)
    while queue:
        module = sys.modules.get(queue.pop())
        path = getattr(module, "__file__", None)
        if module is None or path is None or not path.endswith(".py"):
            continue
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        yield module, tree
        imported = _imports(tree, module.__package__ or "")
        fresh = {name for name in imported if name.partition(".")[0] in packages} - seen
        seen |= fresh
        queue += sorted(fresh)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            source = resolve_name(name, package) if package or not node.level else ""
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _called_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _constant_text(node: ast.expr, module: ModuleType) -> str:
    value = _constant(node, module)
    # As the SDK sends it: `str()` of a member of a str enum would be the member's name.
    return str.__str__(value) if isinstance(value, str) else ""


def _constant(node: ast.expr, module: ModuleType) -> object:
    """The value of a literal, a name or a dotted name; None if it is not known."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return getattr(module, node.id, None)
        case ast.Attribute():
            return getattr(_constant(node.value, module), node.attr, None)
        case _:
            return None
