"""Workflows by name, for the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from temporalio import workflow

from invoice_mcp.worker import WORKFLOWS


class NotFound(ValueError):  # noqa: N818 (an answer to whoever asks)
    """Nothing of that name, or nothing that would do."""


def workflows_named(names: Iterable[str]) -> tuple[type, ...]:
    """What a worker runs: the product's workflows, and in place of those of the same workflow type the named ones.

    Args:
        names: `MODULE:CLASS`, each imported from the current directory or from what is installed.

    Raises:
        NotFound: As its name says.
    """
    chosen = {_type_of(each): each for each in WORKFLOWS}
    chosen.update({_type_of(each): each for each in map(_named, names)})
    return tuple(chosen.values())


def _named(name: str) -> type:
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = attrgetter(attribute)(import_module(module))
    except (ImportError, AttributeError, ValueError) as missing:
        raise NotFound(f"{name!r} can't be loaded as MODULE:CLASS: {missing}") from missing
    if not isinstance(found, type) or workflow._Definition.from_class(found) is None:  # noqa: SLF001
        raise NotFound(f"{name} is no workflow: no class with @workflow.defn")
    return found


def _type_of(each: type) -> str | None:
    return workflow._Definition.must_from_class(each).name  # noqa: SLF001
