"""What the gate finds out about recordings. Travels between processes, and into reports."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from temporal_replay.commands.diff import Drift


class Fault(StrEnum):
    """What is wrong with a recording, other than drift."""

    UNREADABLE = "unreadable"
    NO_CODE = "no code answers to it"
    NONDETERMINISM = "nondeterminism"
    FAILS = "the code fails"
    TIMED_OUT = "timed out"
    CRASHED = "the process ended"


class Problem(BaseModel):
    """Why a recording does not replay.

    Attributes:
        message: What happened, in one line.
        detail: Which event, what was recorded, what the code does now; a traceback; may be empty.
        advice: What to do.
    """

    model_config = ConfigDict(frozen=True)

    fault: Fault
    message: str
    detail: str = ""
    advice: str = ""


class Outcome(BaseModel):
    """What one recording's replay came to.

    Attributes:
        recording: Name of its file, below the corpus, with slashes.
        events: How many its history has.
        seconds: Its replay took.
        drift: Values that are not what was recorded; always empty without strict replay.
    """

    model_config = ConfigDict(frozen=True)

    recording: str
    workflow_id: str = ""
    workflow_type: str = ""
    events: int = 0
    seconds: float = 0.0
    problem: Problem | None = None
    drift: tuple[Drift, ...] = ()
