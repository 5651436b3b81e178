"""Mutation operators for any code: the general ones of `operators.py`, and further ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import libcst as cst
from libcst import matchers as m

from tests.mutants.operators import Edit, conditions, durations, results, statuses, text_of

_BOUNDARY: Mapping[type[cst.BaseCompOp], cst.BaseCompOp] = {
    cst.LessThan: cst.LessThanEqual(),
    cst.LessThanEqual: cst.LessThan(),
    cst.GreaterThan: cst.GreaterThanEqual(),
    cst.GreaterThanEqual: cst.GreaterThan(),
}
# Arguments that only people or tools read: to remove one breaks no promise.
_COSMETIC = frozenset(
    {"description", "title", "summary", "repr", "name", "frozen", "json_schema_extra", "static_summary"}
)
_LOGS = m.Call(func=m.Attribute(value=m.Name("logger") | m.Name("_log")))


def boundaries(node: cst.CSTNode) -> Iterator[Edit]:
    """Include or exclude equality in a comparison."""
    if isinstance(node, cst.Comparison):
        for place, target in enumerate(node.comparisons):
            if other := _BOUNDARY.get(type(target.operator)):
                changed = [*node.comparisons]
                changed[place] = target.with_changes(operator=other)
                yield f"at the boundary: `{text_of(node)}`", node, node.with_changes(comparisons=changed)


def calls(node: cst.CSTNode) -> Iterator[Edit]:
    """Remove a call whose result is unused."""
    if m.matches(node, m.SimpleStatementLine([m.Expr(m.Call() | m.Await())])) and not m.findall(node, _LOGS):
        assert isinstance(node, cst.SimpleStatementLine)
        yield f"leave out `{text_of(node)}`", node, node.with_changes(body=[cst.Pass()])


def arguments(node: cst.CSTNode) -> Iterator[Edit]:
    """Remove a keyword argument, so that its default applies."""
    if not isinstance(node, cst.Call):
        return
    for place, argument in enumerate(node.args):
        name = argument.keyword.value if argument.keyword else ""
        if name and name not in _COSMETIC:
            rest = [*node.args[:place], *node.args[place + 1 :]]
            yield f"without {name}: `{text_of(node)}`", node, node.with_changes(args=rest)


def entries(node: cst.CSTNode) -> Iterator[Edit]:
    """Remove an entry of a dict display."""
    if isinstance(node, cst.Dict):
        for place, element in enumerate(node.elements):
            rest = [*node.elements[:place], *node.elements[place + 1 :]]
            yield f"without {text_of(element)} in a mapping", node, node.with_changes(elements=rest)


def numbers(node: cst.CSTNode) -> Iterator[Edit]:
    """Increment an integer."""
    if isinstance(node, cst.Integer) and node.value.isdecimal():
        yield f"{int(node.value) + 1} for {node.value}", node, node.with_changes(value=str(int(node.value) + 1))


def refusals(node: cst.CSTNode) -> Iterator[Edit]:
    """Replace a `raise` by `pass`."""
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
"""The operators by name."""
