"""What to do about nondeterminism, with a code sketch."""

from __future__ import annotations

import re

from temporal_replay.commands.diff import Mismatch

_CORE_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')


def core_message(failure: Exception) -> str:
    """The message of the SDK core, extracted from its debug representation."""
    text = str(failure)
    found = _CORE_MESSAGE.search(text)
    return found.group(1).replace('\\"', '"') if found else text


def advise(mismatch: Mismatch | None, patch: str) -> str:
    """How to keep open workflows working: restore the named patch, or guard the change."""
    if patch:
        return (
            f"The recording has a marker of patch {patch!r}, but the code no longer asks for it. Keep the call as long "
            f'as a recording or an open workflow needs it:\n\n    workflow.deprecate_patch("{patch}")'
        )
    old = mismatch.recorded.title if mismatch is not None and mismatch.recorded else "the recorded commands"
    new = mismatch.emitted.title if mismatch is not None and mismatch.emitted else "the new commands"
    return (
        "Open workflows would get stuck here. Keep the old branch for them:\n\n"
        '    if workflow.patched("name-the-change"):\n'
        f"        ...  # the new branch: {new}\n"
        "    else:\n"
        f"        ...  # the old branch: {old}\n\n"
        "or pin them to the old code with Worker Deployment versioning"
    )
