"""The named mutants, and the oracles for mutants of product and harness; some are tested in every test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.code_mutants import OraclePool, as_markdown, survivors
from tests.mutants.code_operators import CODE_OPERATORS
from tests.mutants.generator import Mutant, source
from tests.mutants.modules import HARNESS, OTHER_FILES, PRODUCT, sample_mutants
from tests.mutants.modules import tests_of as unit_tests_of
from tests.mutants.named import NAMED_MUTANTS
from tests.mutants.oracle_pool import RANDOM_SCENARIOS, UNIT_TESTS
from tests.mutants.report import escaped
from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
# Fast ones: the oracle that kills each, and a part of its verdict.
EXPECTED_VERDICTS = {
    "S6 is a minute too lenient": (UNIT_TESTS, "test_checker.py"),
    "a worker that is long gone counts as one": (UNIT_TESTS, "test_probe.py"),
}


@pytest.mark.parametrize("edit", NAMED_MUTANTS, ids=lambda edit: edit.about)
def test_a_named_mutant_compiles(edit: object) -> None:
    assert edit in NAMED_MUTANTS
    (found,) = [each for each in NAMED_MUTANTS if each is edit]
    compile(found.mutant.text, found.about, "exec")
    assert unit_tests_of(found.file)


def test_the_unit_tests_of_every_file_exist() -> None:
    for files in (PRODUCT, HARNESS, OTHER_FILES):
        for file in files:
            assert source(file).is_file()
            assert [test for test in unit_tests_of(file) if not (ROOT / test).is_file()] == []


def test_a_sample_is_deterministic_and_of_several_operators() -> None:
    some, again = (list(sample_mutants(["domain/resubmission.py"], 5)) for _ in range(2))
    assert some == again
    assert len({mutant.operator for mutant in some}) == 5
    assert {mutant.operator for mutant in some} <= set(CODE_OPERATORS)
    every = list(sample_mutants(["domain/resubmission.py"], None))
    assert len(every) > 5
    assert {mutant.name for mutant in some} <= {mutant.name for mutant in every}


@pytest.mark.thorough
@requirement("HARNESS-MUTANTS")
async def test_some_named_mutants_are_killed() -> None:
    async with OraclePool() as oracles:
        for about, (oracle, expected) in EXPECTED_VERDICTS.items():
            (edit,) = [each for each in NAMED_MUTANTS if each.about == about]
            verdicts = await oracles.run_oracles(edit.mutant)
            assert expected in verdicts[oracle], verdicts


@requirement("HARNESS-MUTANTS")
def test_every_named_mutant_is_killed_in_the_report() -> None:
    document = (ROOT / "docs" / "mutants-code.md").read_text(encoding="utf-8")
    assert [edit.about for edit in NAMED_MUTANTS if escaped(edit.mutant.name) not in document] == []
    assert "SURVIVED" not in document


def test_the_report_shows_survivors() -> None:
    mutant = Mutant("call", "run+1, leave out `a()`", "adapters/erp.py", "…")
    assert survivors([(mutant, {UNIT_TESTS: "", RANDOM_SCENARIOS: ""})]) == [mutant]
    assert survivors([(mutant, {UNIT_TESTS: "", RANDOM_SCENARIOS: "S6"})]) == []
    assert "SURVIVED" in as_markdown({"product": [(mutant, {UNIT_TESTS: ""})]}, 3)
