"""Generates mutants: each operator at each place of a file where it applies."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

import invoice_mcp
from tests.mutants.operators import OPERATORS, Edit

SOURCES = Path(invoice_mcp.__file__).parents[1]
PACKAGES = ("invoice_mcp", "mcp_temporal_tasks", "temporal_replay", "temporal_simulator")
Place = tuple[str, str, cst.CSTNode, cst.CSTNode]
"""An operator's name, the description of the edit, the node, and its replacement."""
Chosen = Callable[[list[Place]], list[Place]]
FILES = (
    "workflow/invoice_workflow.py",
    "workflow/invoice_decisions.py",
    "workflow/invoice_state.py",
    "workflow/line_workflow.py",
    "workflow/cancellation.py",
    "domain/line_outcomes.py",
    "domain/decision.py",
)


@dataclass(frozen=True)
class Mutant:
    """A mutant: one edit of one file.

    Attributes:
        operator: The name of the operator that made it.
        about: Place and description of the edit.
        file: The file; see `source`.
        text: The whole mutated text of the file.
        preserves_behaviour: Whether no oracle may kill it.
    """

    operator: str
    about: str
    file: str
    text: str
    preserves_behaviour: bool = False

    @property
    def name(self) -> str:
        """File, place and description."""
        return f"{self.file}: {self.about}"

    def install(self, folder: Path) -> None:
        """Copy the packages with this edit into a folder, to be put on Python's path."""
        ignored = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(SOURCES / package, folder / package, ignore=ignored)
        source(self.file, folder).write_text(self.text, encoding="utf-8")


def source(file: str, folder: Path = SOURCES) -> Path:
    """Return the path of a mutant's file.

    Args:
        file: The path below `src`, or below the package invoice_mcp.
    """
    return folder / file if file.partition("/")[0] in PACKAGES else folder / PACKAGES[0] / file


def breaking_mutants() -> Iterator[Mutant]:
    """Yield the mutants of the workflow code."""
    for file in FILES:
        yield from edits_of(file, OPERATORS)


def edits_of(
    file: str, operators: Mapping[str, Callable[[cst.CSTNode], Iterable[Edit]]], select: Chosen = list
) -> Iterator[Mutant]:
    """Yield the mutants of a file by these operators.

    Args:
        select: Selects from all places those to edit: making a mutant takes time.
    """
    text = source(file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    positions = wrapper.resolve(PositionProvider)
    lines = {node: position.start.line for node, position in positions.items()}
    places: list[Place] = []
    for node, function in _with_functions(wrapper.module):
        # The line is relative to its function, so that the name survives changes elsewhere.
        place = f"{function.name.value}{lines[node] - lines[function]:+d}" if function else f"line {lines[node]}"
        for operator, edits in operators.items():
            places += [(operator, f"{place}, {about}", old, new) for about, old, new in edits(node)]
    for operator, about, old, new in select(places):
        edited = wrapper.module.deep_replace(old, new)
        code = edited.code if isinstance(edited, cst.Module) else ""
        if code and code != text:
            yield Mutant(operator, about, file, code)


def _with_functions(
    node: cst.CSTNode, function: cst.FunctionDef | None = None
) -> Iterator[tuple[cst.CSTNode, cst.FunctionDef | None]]:
    """Yield a node and all its descendants, each with its innermost function."""
    function = node if isinstance(node, cst.FunctionDef) else function
    yield node, function
    for child in node.children:
        yield from _with_functions(child, function)


def every(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and all its descendants."""
    return (each for each, _ in _with_functions(node))
