"""Workflows by name, for the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from temporalio import workflow

from invoice_mcp.worker import WORKFLOWS


class NotFound(ValueError):  # noqa: N818 (an answer to whoever asks)
    """Nothing of that name, or nothing that would do."""


def workflows_named(name: str) -> Sequence[type]:
    """The workflows that a worker is given.

    Args:
        name: `module:NAME` of a sequence of workflow classes that stand in for the product's, imported from the current
            directory or from what is installed; "" for the product's own.

    Raises:
        NotFound: As its name says.
    """
    if not name:
        return WORKFLOWS
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise NotFound(f"{name!r} is not of the form module:NAME")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as missing:
        raise NotFound(f"{name} can't be loaded: {missing}") from missing
    if not isinstance(found, Sequence) or not all(_is_workflow(each) for each in found) or not found:
        raise NotFound(f"{name} is no sequence of workflow classes")
    return found


def _is_workflow(each: object) -> bool:
    return isinstance(each, type) and workflow._Definition.from_class(each) is not None  # noqa: SLF001
