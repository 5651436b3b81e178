"""Dependencies have lower bounds. That all imports are declared is checked by deptry, in `nox -s types`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    """The session `lowest` installs exactly these versions."""
    assert re.match(r"[\w-]+(\[\w+\])?>=\d", requirement)
