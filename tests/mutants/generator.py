"""Makes mutants: every operator at every place of the workflow code, and edits that must not matter."""

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
"""Which operator fits there, what it does, to which node, and the node in its place."""
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
    """One edit of one file.

    Attributes:
        operator: What kind of edit it is.
        about: What is done, and where.
        file: Which file of the package is edited.
        text: The whole text of the file after it.
        is_safe: Whether nothing may notice.
    """

    operator: str
    about: str
    file: str
    text: str
    is_safe: bool = False

    @property
    def name(self) -> str:
        """File, line and what is done."""
        return f"{self.file}: {self.about}"

    def install(self, folder: Path) -> None:
        """Put the package with this edit into a folder, from which Python can then import it."""
        ignored = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(SOURCES / package, folder / package, ignore=ignored)
        source(self.file, folder).write_text(self.text, encoding="utf-8")


def source(file: str, folder: Path = SOURCES) -> Path:
    """Where the file of a mutant is.

    Args:
        file: Its path in one of the packages, with that package's name, but for invoice_mcp.
    """
    return folder / file if file.partition("/")[0] in PACKAGES else folder / PACKAGES[0] / file


def breaking() -> Iterator[Mutant]:
    """Every operator at every place it finds in the workflow code."""
    for file in FILES:
        yield from edits_of(file, OPERATORS)


def edits_of(
    file: str, operators: Mapping[str, Callable[[cst.CSTNode], Iterable[Edit]]], chosen: Chosen = list
) -> Iterator[Mutant]:
    """What operators, by their names, do to a file of the package.

    Args:
        chosen: Which of all places are edited, given the operator of each: making an edit takes time.
    """
    text = source(file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    positions = wrapper.resolve(PositionProvider)
    lines = {node: position.start.line for node, position in positions.items()}
    places: list[Place] = []
    for node, function in _with_functions(wrapper.module):
        # By the line within its function: that stays while others change.
        place = f"{function.name.value}{lines[node] - lines[function]:+d}" if function else f"line {lines[node]}"
        for operator, edits in operators.items():
            places += [(operator, f"{place}, {about}", old, new) for about, old, new in edits(node)]
    for operator, about, old, new in chosen(places):
        edited = wrapper.module.deep_replace(old, new)
        code = edited.code if isinstance(edited, cst.Module) else ""
        if code and code != text:
            yield Mutant(operator, about, file, code)


def _with_functions(
    node: cst.CSTNode, function: cst.FunctionDef | None = None
) -> Iterator[tuple[cst.CSTNode, cst.FunctionDef | None]]:
    """A node and every node below it, each with the function that it is in or is."""
    function = node if isinstance(node, cst.FunctionDef) else function
    yield node, function
    for child in node.children:
        yield from _with_functions(child, function)


def every(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and every node below it."""
    return (each for each, _ in _with_functions(node))
