"""Loading of workflows by name: which of the product's they replace, and which names are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.common import RawValue

from invoice_mcp.testing.simulate.process.loading import WorkflowNotFoundError, load_workflows
from invoice_mcp.workflow.worker import WORKFLOWS
from tests.scenarios.controls.decisions import LosesEarlyDecisions

HERE = "tests.unit.testing.test_loading"


@workflow.defn
class OfAnotherType:
    """A workflow type that the product does not have."""

    @workflow.run
    async def run(self) -> None: ...


@workflow.defn(dynamic=True)
class OfAnyType:
    """A dynamic workflow: a worker runs it for types that it does not know, and it knows all of the product's."""

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None: ...


def test_a_named_workflow_replaces_the_one_of_its_type() -> None:
    assert load_workflows(()) == WORKFLOWS
    assert load_workflows(["tests.scenarios.controls.decisions:LosesEarlyDecisions"]) == (
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
def test_a_name_that_is_no_workflow_is_refused(name: str) -> None:
    with pytest.raises(WorkflowNotFoundError):
        load_workflows([name])


@pytest.mark.parametrize(("name", "kind"), [("OfAnotherType", "its type is OfAnotherType"), ("OfAnyType", "no type")])
def test_a_workflow_that_replaces_none_is_refused(name: str, kind: str) -> None:
    with pytest.raises(
        WorkflowNotFoundError, match=f"{HERE}:{name} replaces none of InvoiceWorkflow, PayLineItem: .*{kind}"
    ):
        load_workflows([f"{HERE}:{name}"])


def test_two_workflows_of_one_type_are_refused() -> None:
    names = [f"tests.scenarios.controls.decisions:{name}" for name in ("LastDecisionWins", "LosesEarlyDecisions")]
    with pytest.raises(WorkflowNotFoundError, match=f"{names[0]} and {names[1]} both replace InvoiceWorkflow"):
        load_workflows(names)
    assert load_workflows([names[0], names[0]]) == load_workflows(names[:1])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def broken(:", "SyntaxError: "),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_module_that_can_not_be_imported_is_reported_in_one_line(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkflowNotFoundError, match="broken_module:X can't be imported: ") as refused:
        load_workflows(["broken_module:X"])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
