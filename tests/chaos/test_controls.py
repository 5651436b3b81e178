"""The campaign catches what is planted, and finds nothing in the product as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.planted import DEFECTS, Defect
from tests.requirements import requirement

_WITHIN = 3600.0


@requirement("CHAOS-CONTROLS")
@pytest.mark.nightly
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_planted_defect_is_caught(defect: Defect, tmp_path: Path) -> None:
    defect.install(tmp_path)
    reported = defect.campaign(tmp_path, _WITHIN)
    found = {kind for kind, times in reported["findings"].items() if times}
    assert found & set(defect.kinds), f"nothing was found in {reported['episodes']} episodes"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_can_still_be_planted(defect: Defect, tmp_path: Path) -> None:
    defect.install(tmp_path)
    edited = [tmp_path / file for file in defect.edits]
    assert all(compile(path.read_text(encoding="utf-8"), str(path), "exec") for path in edited)
