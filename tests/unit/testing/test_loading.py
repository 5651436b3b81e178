"""Workflows by name: what stands in for the product's, and what is refused because it would stand for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.common import RawValue

from invoice_mcp.testing.simulate.process.loading import NotFound, workflows_named
from invoice_mcp.workflow.worker import WORKFLOWS
from tests.scenarios.controls.decisions import LosesEarlyDecisions

HERE = "tests.unit.testing.test_loading"


@workflow.defn
class OfAnotherType:
    """A workflow that the product does not have."""

    @workflow.run
    async def run(self) -> None: ...


@workflow.defn(dynamic=True)
class OfAnyType:
    """What a worker takes where it has none of that type: the product's are always there."""

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None: ...


def test_a_named_workflow_stands_in_for_the_one_of_its_type() -> None:
    assert workflows_named(()) == WORKFLOWS
    assert workflows_named(["tests.scenarios.controls.decisions:LosesEarlyDecisions"]) == (
        LosesEarlyDecisions,
        *WORKFLOWS[1:],
    )


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "nowhere:Nothing",
        "tests.other_workflows:Nothing",
        "tests.other_workflows:workflow",
        ":",
        "tests.other_workflows:",
        "math:pi",
    ],
)
def test_what_is_no_workflow_is_told(name: str) -> None:
    with pytest.raises(NotFound):
        workflows_named([name])


@pytest.mark.parametrize(("name", "kind"), [("OfAnotherType", "its type is OfAnotherType"), ("OfAnyType", "no type")])
def test_what_stands_in_for_nothing_is_refused(name: str, kind: str) -> None:
    with pytest.raises(NotFound, match=f"{HERE}:{name} stands in for none of InvoiceWorkflow, PayLineItem: .*{kind}"):
        workflows_named([f"{HERE}:{name}"])


def test_two_that_stand_in_for_the_same_are_refused() -> None:
    names = [f"tests.scenarios.controls.decisions:{name}" for name in ("LastDecisionWins", "LosesEarlyDecisions")]
    with pytest.raises(NotFound, match=f"{names[0]} and {names[1]} both stand in for InvoiceWorkflow"):
        workflows_named(names)
    assert workflows_named([names[0], names[0]]) == workflows_named(names[:1])


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def broken(:", "SyntaxError: "),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_module_that_can_not_be_imported_is_told_in_a_line(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotFound, match="'broken_module:X' can't be loaded as MODULE:CLASS: ") as refused:
        workflows_named(["broken_module:X"])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
