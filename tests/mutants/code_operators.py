"""What can be done to any piece of code: beside those of `operators.py` that fit anywhere, what only workflows lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import libcst as cst
from libcst import matchers as m

from tests.mutants.operators import Edit, conditions, durations, results, statuses, text_of

_NEXT_TO: Mapping[type[cst.BaseCompOp], cst.BaseCompOp] = {
    cst.LessThan: cst.LessThanEqual(),
    cst.LessThanEqual: cst.LessThan(),
    cst.GreaterThan: cst.GreaterThanEqual(),
    cst.GreaterThanEqual: cst.GreaterThan(),
}
# What people read, or only tools: to leave it out breaks nothing that is promised.
_WORDS = frozenset({"description", "title", "summary", "repr", "name", "frozen", "json_schema_extra", "static_summary"})
_LOGS = m.Call(func=m.Attribute(value=m.Name("logger") | m.Name("_log")))


def boundaries(node: cst.CSTNode) -> Iterator[Edit]:
    """The same comparison, but for what is equal."""
    if isinstance(node, cst.Comparison):
        for place, target in enumerate(node.comparisons):
            if other := _NEXT_TO.get(type(target.operator)):
                changed = [*node.comparisons]
                changed[place] = target.with_changes(operator=other)
                yield f"at the boundary: `{text_of(node)}`", node, node.with_changes(comparisons=changed)


def calls(node: cst.CSTNode) -> Iterator[Edit]:
    """Leave out a call whose result nobody uses."""
    if m.matches(node, m.SimpleStatementLine([m.Expr(m.Call() | m.Await())])) and not m.findall(node, _LOGS):
        assert isinstance(node, cst.SimpleStatementLine)
        yield f"leave out `{text_of(node)}`", node, node.with_changes(body=[cst.Pass()])


def arguments(node: cst.CSTNode) -> Iterator[Edit]:
    """Leave out an argument that has a name: then its default counts."""
    if not isinstance(node, cst.Call):
        return
    for place, argument in enumerate(node.args):
        name = argument.keyword.value if argument.keyword else ""
        if name and name not in _WORDS:
            rest = [*node.args[:place], *node.args[place + 1 :]]
            yield f"without {name}: `{text_of(node)}`", node, node.with_changes(args=rest)


def entries(node: cst.CSTNode) -> Iterator[Edit]:
    """Leave out an entry of a mapping."""
    if isinstance(node, cst.Dict):
        for place, element in enumerate(node.elements):
            rest = [*node.elements[:place], *node.elements[place + 1 :]]
            yield f"without {text_of(element)} in a mapping", node, node.with_changes(elements=rest)


def numbers(node: cst.CSTNode) -> Iterator[Edit]:
    """One more."""
    if isinstance(node, cst.Integer) and node.value.isdecimal():
        yield f"{int(node.value) + 1} for {node.value}", node, node.with_changes(value=str(int(node.value) + 1))


def refusals(node: cst.CSTNode) -> Iterator[Edit]:
    """Swallow what is raised."""
    if m.matches(node, m.SimpleStatementLine([m.Raise()])):
        assert isinstance(node, cst.SimpleStatementLine)
        yield f"swallow: `{text_of(node)}`", node, node.with_changes(body=[cst.Pass()])


CODE_OPERATORS: Mapping[str, Callable[[cst.CSTNode], Iterator[Edit]]] = {
    "argument": arguments,
    "boundary": boundaries,
    "call": calls,
    "condition": conditions,
    "duration": durations,
    "entry": entries,
    "number": numbers,
    "refusal": refusals,
    "result": results,
    "status": statuses,
}
"""Every operator by its name."""
