"""The table of named edits, and the judges of edits beside the workflows: some are judged in every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.code_operators import CODE_OPERATORS
from tests.mutants.elsewhere import Judges, as_markdown, missed
from tests.mutants.generator import Mutant, source
from tests.mutants.judge_pool import DRAWN, UNIT
from tests.mutants.modules import HARNESS, OTHERS, PRODUCT, sample
from tests.mutants.modules import tests_of as judges_of
from tests.mutants.named import NAMED
from tests.mutants.report import escaped
from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
# Cheap ones: whom they are noticed by, and by what.
JUDGED = {
    "S6 is a minute too lenient": (UNIT, "test_checker.py"),
    "a worker that is long gone counts as one": (UNIT, "test_probe.py"),
}


@pytest.mark.parametrize("edit", NAMED, ids=lambda edit: edit.about)
def test_a_named_edit_is_one_that_python_reads(edit: object) -> None:
    assert edit in NAMED
    (found,) = [each for each in NAMED if each is edit]
    compile(found.mutant.text, found.about, "exec")
    assert judges_of(found.file)


def test_every_judge_of_a_file_is_there() -> None:
    for files in (PRODUCT, HARNESS, OTHERS):
        for file in files:
            assert source(file).is_file()
            assert [test for test in judges_of(file) if not (ROOT / test).is_file()] == []


def test_a_sample_is_the_same_each_time_and_of_several_operators() -> None:
    some, again = (list(sample(["domain/resubmission.py"], 5)) for _ in range(2))
    assert some == again
    assert len({mutant.operator for mutant in some}) == 5
    assert {mutant.operator for mutant in some} <= set(CODE_OPERATORS)
    every = list(sample(["domain/resubmission.py"], None))
    assert len(every) > 5
    assert {mutant.name for mutant in some} <= {mutant.name for mutant in every}


@pytest.mark.thorough
@requirement("HARNESS-MUTANTS")
async def test_some_named_edits_are_noticed() -> None:
    async with Judges() as judges:
        for about, (judge, seen) in JUDGED.items():
            (edit,) = [each for each in NAMED if each.about == about]
            said = await judges.judge(edit.mutant)
            assert seen in said[judge], said


@requirement("HARNESS-MUTANTS")
def test_the_report_tells_of_every_named_edit_who_notices() -> None:
    told = (ROOT / "docs" / "mutants-elsewhere.md").read_text(encoding="utf-8")
    assert [edit.about for edit in NAMED if escaped(edit.mutant.name) not in told] == []
    assert "NOT NOTICED" not in told


def test_what_nobody_notices_is_told() -> None:
    mutant = Mutant("call", "run+1, leave out `a()`", "adapters/erp.py", "…")
    assert missed([(mutant, {UNIT: "", DRAWN: ""})]) == [mutant]
    assert missed([(mutant, {UNIT: "", DRAWN: "S6"})]) == []
    assert "NOT NOTICED" in as_markdown({"product": [(mutant, {UNIT: ""})]}, 3)
