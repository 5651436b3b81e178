"""Edits that look as if they broke something and do not: by the name of the mutant without its line, why."""

from __future__ import annotations

from collections.abc import Mapping

EQUIVALENT: Mapping[str, str] = {}
