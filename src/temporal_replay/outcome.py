"""The result of replaying one recording. Sent between processes, and written into reports."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from temporal_replay.commands.diff import Drift


class Fault(StrEnum):
    """Kinds of problems, other than drift."""

    UNREADABLE = "unreadable"
    NO_CODE = "no matching workflow"
    NONDETERMINISM = "nondeterminism"
    FAILS = "the code fails"
    TIMED_OUT = "timed out"
    CRASHED = "the process ended"


class Problem(BaseModel):
    """Why a recording does not replay.

    Attributes:
        message: What happened, in one line.
        detail: The recorded and the emitted command, or a traceback; may be empty.
        advice: What to do next.
    """

    model_config = ConfigDict(frozen=True)

    fault: Fault
    message: str
    detail: str = ""
    advice: str = ""


class Outcome(BaseModel):
    """The result of replaying one recording.

    Attributes:
        recording: File name relative to the corpus, with slashes.
        events: Number of events in the history.
        seconds: Duration of the replay.
        drift: Values that differ from the recording. Empty without strict replay.
    """

    model_config = ConfigDict(frozen=True)

    recording: str
    workflow_id: str = ""
    workflow_type: str = ""
    events: int = 0
    seconds: float = 0.0
    problem: Problem | None = None
    drift: tuple[Drift, ...] = ()
