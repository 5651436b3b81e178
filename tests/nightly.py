"""Cases of a parametrized test that play at night only: each shows on more what its neighbours show every time."""

from __future__ import annotations

from typing import Any

import pytest


def at_night(*values: Any) -> Any:
    """One set of parameters, played by `nox -s nightly` alone."""
    return pytest.param(*values, marks=pytest.mark.nightly)
