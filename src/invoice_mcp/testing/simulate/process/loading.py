"""Loads the workflows that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from temporalio import workflow

from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_replay import LoadError, load_object


class WorkflowNotFoundError(ValueError):
    """A name is not that of a workflow, or of none that a worker would run."""


def load_workflows(names: Iterable[str]) -> tuple[type, ...]:
    """What a worker runs: the product's workflows, each replaced by the named workflow of the same type, if any.

    Args:
        names: `module:class`, each imported from the current directory or from an installed package.

    Raises:
        WorkflowNotFoundError: A name can't be loaded, has no type of the product's, or has the type of another name.
    """
    own = {_type_of(each): each for each in WORKFLOWS}
    chosen, replaced_by = dict(own), dict[str | None, str]()
    for name in dict.fromkeys(names):
        loaded = load_workflow(name)
        kind = _type_of(loaded)
        if kind not in own:
            types = ", ".join(map(str, own))
            reason = "it has no type of its own" if kind is None else f"its type is {kind}"
            raise WorkflowNotFoundError(f"{name} replaces none of {types}: {reason}")
        if kind in replaced_by:
            raise WorkflowNotFoundError(f"{replaced_by[kind]} and {name} both replace {kind}")
        chosen[kind], replaced_by[kind] = loaded, name
    return tuple(chosen.values())


def load_workflow(name: str) -> type:
    """The workflow class named `module:class`, imported from the current directory or from an installed package.

    Raises:
        WorkflowNotFoundError: It can't be imported, or is no workflow.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        loaded = load_object(name)
    except LoadError as error:
        raise WorkflowNotFoundError(str(error)) from error
    if not isinstance(loaded, type) or workflow._Definition.from_class(loaded) is None:  # noqa: SLF001
        raise WorkflowNotFoundError(f"{name} is no workflow: no class with @workflow.defn")
    return loaded


def _type_of(each: type) -> str | None:
    return workflow._Definition.must_from_class(each).name  # noqa: SLF001
