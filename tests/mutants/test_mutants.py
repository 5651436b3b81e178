"""The mutants themselves, and a few of them judged: one that each judge alone notices, one that nobody may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import libcst as cst
import pytest

from invoice_mcp.testing import ScenarioRunner, kinds
from tests.mutants.__main__ import judge
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.generator import Mutant, breaking, every, source
from tests.mutants.judge import PLAIN, SIMULATED, STRICT
from tests.mutants.operators import OPERATORS
from tests.mutants.report import Judged, as_markdown, escaped, flaws, summary
from tests.mutants.safe import safe
from tests.mutants.stories import STORIES
from tests.nightly import at_night
from tests.requirements import requirement
from tests.scenarios.controls.control import Script, first_broken


@cache
def every_breaking() -> tuple[Mutant, ...]:
    return tuple(breaking())


@cache
def every_safe() -> tuple[Mutant, ...]:
    return tuple(safe())


@pytest.mark.thorough
@requirement("HISTORY-MUTANTS")
def test_there_are_many_of_each_that_python_reads_and_the_report_is_of_them() -> None:
    # One test: to make them all takes as long as everything that is looked at here.
    every = (*every_breaking(), *every_safe())
    assert len(every_breaking()) >= 50
    assert len(every_safe()) >= 15
    assert min(Counter(mutant.operator for mutant in every_breaking()).values()) >= 4
    assert len({(mutant.file, mutant.text) for mutant in every}) == len(every)
    for mutant in every:
        assert mutant.text != source(mutant.file).read_text(encoding="utf-8")
        compile(mutant.text, mutant.name, "exec")
    assert set(EQUIVALENT) <= {mutant.name for mutant in every_breaking()}, "what is taken for equivalent exists"
    told = (Path(__file__).parents[2] / "docs" / "mutants.md").read_text(encoding="utf-8")
    assert [mutant.name for mutant in every if escaped(mutant.name) not in told] == []
    assert "NOT NOTICED" not in told


@pytest.fixture(scope="module")
def simulator() -> Iterator[ScenarioRunner]:
    with ScenarioRunner(kinds()["simulated"]) as runner:
        yield runner


@pytest.mark.parametrize("script", STORIES, ids=str)
def test_a_story_goes_well_with_the_workflows_as_they_are(simulator: ScenarioRunner, script: Script) -> None:
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
# Of an operator, on a small function: each edit that it makes, and the lines that are there instead of others.
SMALL = {
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
@pytest.mark.parametrize("operator", SMALL)
def test_an_operator_finds_its_places(operator: str) -> None:
    code, expected = SMALL[operator]
    module = cst.parse_module(code)
    found = {}
    for node in every(module):
        for about, old, new in OPERATORS[operator](node):
            edited = module.deep_replace(old, new)
            assert isinstance(edited, cst.Module)
            compile(edited.code, about, "exec")
            there = Counter(line.strip() for line in code.splitlines())
            found[about] = tuple(Counter(line.strip() for line in edited.code.splitlines()) - there)
    assert expected.items() <= found.items()
    assert operator == "insertion" or expected.keys() == found.keys()


# Who notices what, of the gate's two halves and of the scenarios.
NOTICED = {
    "workflow/line_workflow.py: run+0, a timer more": {PLAIN, STRICT},
    "workflow/line_workflow.py: line 31, retry policy without maximum_interval": {STRICT},
    "domain/decision.py: require_open_for+17, swallow": {SIMULATED},
    "workflow/invoice_workflow.py: a log line in run": set(),
}
AT_NIGHT = {"workflow/line_workflow.py: run+0, a timer more", "workflow/invoice_workflow.py: a log line in run"}


@requirement("HISTORY-MUTANTS")
@pytest.mark.thorough
@pytest.mark.parametrize("name", [at_night(name) if name in AT_NIGHT else name for name in NOTICED])
async def test_a_mutant_is_noticed_by_those_who_can(name: str) -> None:
    (mutant,) = [each for each in (*every_breaking(), *every_safe()) if each.name.startswith(name)]
    said = await judge(mutant, (PLAIN, STRICT, SIMULATED))
    assert {judge for judge, text in said.items() if text} == NOTICED[name], said


def test_the_report_says_what_nobody_notices_and_what_is_flagged_for_nothing() -> None:
    missed = Judged(Mutant("condition", "7, not: `a`", "workflow/invoice_workflow.py", "…"), {PLAIN: "", STRICT: ""})
    log_line = Mutant("log line", "a log line in run", "workflow/invoice_workflow.py", "…", is_safe=True)
    flagged = Judged(log_line, {PLAIN: "drift"})
    caught = Judged(
        Mutant("condition", "8, not: `b`", "workflow/invoice_workflow.py", "…"), {PLAIN: "", STRICT: "drift: a | b"}
    )
    judged = [missed, flagged, caught]
    assert flaws(judged) == [missed, flagged]
    assert "2 edits that break the workflows: 1 of 2 (50%) noticed by somebody" in summary(judged)
    assert "1 edits that must not matter: 1 flagged" in summary(judged)
    assert "**caught** drift: a \\| b" in as_markdown(judged)
    assert "| condition | 2 of 2 | 1 | 0 |" in as_markdown(judged)
