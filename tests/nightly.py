"""Cases of parametrized tests that only `nox -s nightly` runs: more of what their neighbours test every time."""

from __future__ import annotations

from typing import Any

import pytest


def at_night(*values: Any) -> Any:
    """One set of parameters for `nox -s nightly` alone."""
    return pytest.param(*values, marks=pytest.mark.nightly)
