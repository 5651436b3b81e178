"""Workflows by name, for the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from temporalio import workflow

from invoice_mcp.workflow.worker import WORKFLOWS


class NotFound(ValueError):  # noqa: N818 (an answer to whoever asks)
    """Nothing of that name, or nothing that would do."""


def workflows_named(names: Iterable[str]) -> tuple[type, ...]:
    """What a worker runs: the product's workflows, and in place of those of the same workflow type the named ones.

    Args:
        names: `MODULE:CLASS`, each imported from the current directory or from what is installed.

    Raises:
        NotFound: As its name says, or it would never be run.
    """
    own = {_type_of(each): each for each in WORKFLOWS}
    chosen, called = dict(own), dict[str | None, str]()
    for name in dict.fromkeys(names):
        found = named(name)
        kind = _type_of(found)
        if kind not in own:
            types = ", ".join(map(str, own))
            it_has = "it has no type of its own" if kind is None else f"its type is {kind}"
            raise NotFound(f"{name} stands in for none of {types}: {it_has}")
        if kind in called:
            raise NotFound(f"{called[kind]} and {name} both stand in for {kind}")
        chosen[kind], called[kind] = found, name
    return tuple(chosen.values())


def _loaded(name: str) -> object:
    """What is called `MODULE:NAME`.

    Raises:
        NotFound: As its name says.
    """
    module, _, attribute = name.partition(":")
    try:
        return attrgetter(attribute)(import_module(module))
    except (Exception, SystemExit) as missing:  # A module may do anything while it is imported.
        known = isinstance(missing, ImportError | AttributeError | ValueError)
        [told, *_] = [*str(missing).splitlines(), ""]
        cause = told if known else f"{type(missing).__name__}: {told}"
        raise NotFound(f"{name!r} can't be loaded as MODULE:CLASS: {cause}") from missing


def named(name: str) -> type:
    """The workflow that is called `MODULE:CLASS`, imported from the current directory or from what is installed.

    Raises:
        NotFound: As its name says, or it is none.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _loaded(name)
    if not isinstance(found, type) or workflow._Definition.from_class(found) is None:  # noqa: SLF001
        raise NotFound(f"{name} is no workflow: no class with @workflow.defn")
    return found


def _type_of(each: type) -> str | None:
    return workflow._Definition.must_from_class(each).name  # noqa: SLF001
