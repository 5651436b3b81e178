"""What to do about nondeterminism, with a sketch."""

from __future__ import annotations

import re

from temporal_replay.commands.diff import Mismatch

_CORE_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')


def core_message(failure: Exception) -> str:
    """What the SDK's core says, without the structure it says it in."""
    text = str(failure)
    found = _CORE_MESSAGE.search(text)
    return found.group(1).replace('\\"', '"') if found else text


def advise(mismatch: Mismatch | None, patch: str) -> str:
    """How to keep what is already running on the old way."""
    if patch:
        return (
            f"The recording holds the marker of patch {patch!r}, and the code no longer asks for it. Keep it as long "
            f'as a recording or an open workflow needs it:\n\n    workflow.deprecate_patch("{patch}")'
        )
    old = mismatch.recorded.title if mismatch is not None and mismatch.recorded else "what it did before"
    new = mismatch.emitted.title if mismatch is not None and mismatch.emitted else "what it does now"
    return (
        "Workflows that are open would be stuck here. Keep the old way for them:\n\n"
        '    if workflow.patched("say-what-changed"):\n'
        f"        ...  # the new way: {new}\n"
        "    else:\n"
        f"        ...  # the old way: {old}\n\n"
        "or leave them to the old code by Worker Deployment versioning (pinned)"
    )
