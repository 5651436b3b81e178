"""Imports objects that a command line names as `module:attribute`."""

from __future__ import annotations

import importlib
from operator import attrgetter
from typing import Any


class LoadError(ValueError):
    """A name can't be imported. The message says why, in one line."""


def load_object(name: str) -> Any:
    """Import what `module:attribute` names, such as `my_package.worker:WORKFLOWS`. The attribute may be dotted.

    Raises:
        LoadError: The name has another form, or the import fails. A module may raise anything while it is imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise LoadError(f"{name!r} must read module:attribute, such as my_package.worker:WORKFLOWS")
    try:
        return attrgetter(attribute)(importlib.import_module(module))
    except (Exception, SystemExit) as error:
        [reason, *_] = [*str(error).splitlines(), ""]
        if isinstance(error, ModuleNotFoundError):
            cause = f"{reason}. Run it where your package is installed, or in its directory"
        else:
            cause = f"{type(error).__name__}: {reason}"
        raise LoadError(f"{name} can't be imported: {cause}") from error
