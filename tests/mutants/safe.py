"""Edits that must not matter: whoever flags one of them cries wolf."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
from libcst import matchers as m

from tests.mutants.generator import FILES, Mutant, every, source
from tests.mutants.safe_edits import SAFE_EDITS


def safe() -> Iterator[Mutant]:
    """Every edit that must not matter: those above, a log line in each function, every docstring reworded."""
    for about, file, edits in SAFE_EDITS:
        text = source(file).read_text(encoding="utf-8")
        for old, new in edits:
            assert text.count(old) == 1, f"{file}, {about}: it is there {text.count(old)} times: {old}"
            text = text.replace(old, new)
        yield Mutant("by hand", about, file, text, is_safe=True)
    for file in (each for each in FILES if each.startswith("workflow/")):
        module = cst.parse_module(source(file).read_text(encoding="utf-8"))
        for node in every(module):
            if isinstance(node, cst.FunctionDef) and node.asynchronous and isinstance(node.body, cst.IndentedBlock):
                log = cst.parse_statement(f'workflow.logger.info("in {node.name.value}")')
                logged = node.body.with_changes(body=[log, *node.body.body])
                edited = module.deep_replace(node.body, logged)
                assert isinstance(edited, cst.Module)
                yield Mutant("log line", f"a log line in {node.name.value}", file, edited.code, is_safe=True)
        reworded = module.visit(_Rewording())
        yield Mutant("docstring", "every docstring reworded", file, reworded.code, is_safe=True)


class _Rewording(cst.CSTTransformer):
    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.Expr:  # noqa: ARG002, N802
        if m.matches(updated_node.value, m.SimpleString()):
            return updated_node.with_changes(value=cst.SimpleString('"""In other words."""'))
        return updated_node
