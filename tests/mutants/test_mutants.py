"""The generated mutants, the report, and some mutants tested by the oracles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import libcst as cst
import pytest

from invoice_mcp.testing import ScenarioRunner, kinds
from tests.mutants.__main__ import run_oracles
from tests.mutants.equivalent import EQUIVALENT_MUTANTS
from tests.mutants.extra_stories import EXTRA_STORIES
from tests.mutants.generator import Mutant, breaking_mutants, every, source
from tests.mutants.operators import OPERATORS
from tests.mutants.oracle import PLAIN, SIMULATED, STRICT
from tests.mutants.refactorings import refactorings
from tests.mutants.report import MutantResult, as_markdown, escaped, summary, unexpected_results
from tests.nightly import at_night
from tests.requirements import requirement
from tests.scenarios.controls.control import Script, first_broken


@cache
def every_breaking() -> tuple[Mutant, ...]:
    return tuple(breaking_mutants())


@cache
def every_refactorings() -> tuple[Mutant, ...]:
    return tuple(refactorings())


@pytest.mark.thorough
@requirement("HISTORY-MUTANTS")
def test_mutants_compile_are_distinct_and_are_in_the_report() -> None:
    # One test, because making all mutants takes most of its time.
    every = (*every_breaking(), *every_refactorings())
    assert len(every_breaking()) >= 50
    assert len(every_refactorings()) >= 15
    assert min(Counter(mutant.operator for mutant in every_breaking()).values()) >= 4
    assert len({(mutant.file, mutant.text) for mutant in every}) == len(every)
    for mutant in every:
        assert mutant.text != source(mutant.file).read_text(encoding="utf-8")
        compile(mutant.text, mutant.name, "exec")
    assert set(EQUIVALENT_MUTANTS) <= {mutant.name for mutant in every_breaking()}, "each equivalent mutant exists"
    document = (Path(__file__).parents[2] / "docs" / "mutants.md").read_text(encoding="utf-8")
    assert [mutant.name for mutant in every if escaped(mutant.name) not in document] == []
    assert "SURVIVED" not in document


@pytest.fixture(scope="module")
def simulator() -> Iterator[ScenarioRunner]:
    with ScenarioRunner(kinds()["simulated"]) as runner:
        yield runner


@pytest.mark.parametrize("script", EXTRA_STORIES, ids=str)
def test_a_story_passes_on_the_unmutated_workflows(simulator: ScenarioRunner, script: Script) -> None:
    assert first_broken(simulator, [script]) is None


BEGINS = """
async def run(self):
    payment = workflow.start_activity(pay, order)
    line = await workflow.start_child_workflow(Line.run, order, id="a")
    return await payment, await line
"""
CATCHES = """
async def run(self):
    try:
        await payment
    except ActivityError as error:
        return told(error)
    except (A, B):
        raise
    try:
        read(order)
    except ValueError:
        return None
"""
_LOCAL = "'payment_gateway', start_to_close_timeout=_VALIDATION_ATTEMPT"
DECIDES = """
async def _await_decision(self):
    return True
"""
# Operators on a small function: each edit, and the lines that it adds.
OPERATOR_EXAMPLES = {
    "begun": (
        BEGINS,
        {
            "never begin `payment = workflow.start_activity(pay, order)`": (
                "payment = asyncio.get_running_loop().create_future()",
            ),
            "begin twice `payment = workflow.start_activity(pay, order)`": ("workflow.start_activity(pay, order)",),
            'never begin `line = await workflow.start_child_workflow(Line.run, order,…`': (
                "line = asyncio.get_running_loop().create_future()",
            ),
            'begin twice `line = await workflow.start_child_workflow(Line.run, order,…`': (
                'await workflow.start_child_workflow(Line.run, order, id="a")',
            ),
        },
    ),
    "exception": (
        CATCHES,
        {
            "catch everything for `ActivityError`": ("except BaseException as error:",),
            "catch everything for `(A, B)`": ("except BaseException:",),
            "swallow: `raise`": ("pass",),
        },
    ),
    "insertion": (
        DECIDES,
        {
            "a local activity more": (
                f"await workflow.execute_local_activity({_LOCAL})",
            ),
            "a local activity more that nobody waits for": (
                f"workflow.start_local_activity({_LOCAL})",
            ),
        },
    ),
}  # fmt: skip


@requirement("HISTORY-MUTANTS")
@pytest.mark.parametrize("operator", OPERATOR_EXAMPLES)
def test_an_operator_finds_every_place(operator: str) -> None:
    code, expected = OPERATOR_EXAMPLES[operator]
    module = cst.parse_module(code)
    found = {}
    for node in every(module):
        for about, old, new in OPERATORS[operator](node):
            edited = module.deep_replace(old, new)
            assert isinstance(edited, cst.Module)
            compile(edited.code, about, "exec")
            original = Counter(line.strip() for line in code.splitlines())
            found[about] = tuple(Counter(line.strip() for line in edited.code.splitlines()) - original)
    assert expected.items() <= found.items()
    assert operator == "insertion" or expected.keys() == found.keys()


# Mutants, by the start of the name, and the oracles that kill them.
EXPECTED_KILLS = {
    "workflow/line_workflow.py: run+0, a timer more": {PLAIN, STRICT},
    "workflow/line_workflow.py: line 31, retry policy without maximum_interval": {STRICT},
    "domain/decision.py: require_open_for+17, swallow": {SIMULATED},
    "workflow/invoice_workflow.py: a log line in run": set(),
}
NIGHTLY = {"workflow/line_workflow.py: run+0, a timer more", "workflow/invoice_workflow.py: a log line in run"}


@requirement("HISTORY-MUTANTS")
@pytest.mark.thorough
@pytest.mark.parametrize("name", [at_night(name) if name in NIGHTLY else name for name in EXPECTED_KILLS])
async def test_a_mutant_is_killed_by_the_expected_oracles(name: str) -> None:
    (mutant,) = [each for each in (*every_breaking(), *every_refactorings()) if each.name.startswith(name)]
    verdicts = await run_oracles(mutant, (PLAIN, STRICT, SIMULATED))
    assert {oracle for oracle, text in verdicts.items() if text} == EXPECTED_KILLS[name], verdicts


def test_the_report_shows_survivors_and_killed_refactorings() -> None:
    survivors = MutantResult(
        Mutant("condition", "7, not: `a`", "workflow/invoice_workflow.py", "…"), {PLAIN: "", STRICT: ""}
    )
    log_line = Mutant("log line", "a log line in run", "workflow/invoice_workflow.py", "…", preserves_behaviour=True)
    flagged = MutantResult(log_line, {PLAIN: "drift"})
    caught = MutantResult(
        Mutant("condition", "8, not: `b`", "workflow/invoice_workflow.py", "…"), {PLAIN: "", STRICT: "drift: a | b"}
    )
    results = [survivors, flagged, caught]
    assert unexpected_results(results) == [survivors, flagged]
    assert "2 mutants that break the workflows: 1 of 2 (50%) killed" in summary(results)
    assert "1 refactorings: 1 killed" in summary(results)
    assert "**killed** drift: a \\| b" in as_markdown(results)
    assert "| condition | 2 of 2 | 1 | 0 |" in as_markdown(results)
