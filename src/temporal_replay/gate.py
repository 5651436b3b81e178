"""The gate: checks that the code replays every recording of a corpus, value by value."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from temporal_replay.commands.diff import Drift
from temporal_replay.corpus import PATHS_FILE, AcceptanceRule, Corpus, read_corpus
from temporal_replay.outcome import Outcome
from temporal_replay.replay.pool import ReplayPool


class AcceptedDrift(BaseModel):
    """A drift that a rule of accepted-drift.toml accepts."""

    model_config = ConfigDict(frozen=True)

    recording: str
    drift: Drift
    reason: str


class GateReport(BaseModel):
    """The result of the gate.

    Attributes:
        outcomes: One per recording, sorted by name, without accepted drift.
        accepted: The accepted drift.
        missing: Recordings that paths.toml requires and that do not exist.
        stale: Rules of accepted-drift.toml that match no drift any more.
        notes: What the gate could not check. Notes do not fail it.
        strict: Whether values were compared.
        seconds: Duration of the check.
    """

    model_config = ConfigDict(frozen=True)

    outcomes: tuple[Outcome, ...]
    accepted: tuple[AcceptedDrift, ...] = ()
    missing: tuple[str, ...] = ()
    stale: tuple[AcceptanceRule, ...] = ()
    notes: tuple[str, ...] = ()
    strict: bool = True
    seconds: float = 0.0

    @property
    def broken(self) -> tuple[Outcome, ...]:
        """The outcomes with a problem or with drift."""
        return tuple(outcome for outcome in self.outcomes if outcome.problem or outcome.drift)

    @property
    def is_clean(self) -> bool:
        """Whether the code passes. An empty corpus never passes."""
        return bool(self.outcomes) and not (self.broken or self.missing or self.stale)


async def check_histories(
    path: Path, pool: ReplayPool, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> GateReport:
    """Replay every recording below a path; see `check_corpus`.

    Example:
        report = await check_histories(Path("histories"), ReplayPool(Target("my_app.worker:WORKFLOWS")))

    Args:
        path: A corpus, a folder of one, or one recording.
        on_outcome: Called with each outcome as it arrives.

    Raises:
        CannotRunError: The path does not exist, a list of the corpus can't be read, or the code can't be imported.
    """
    return await check_corpus(read_corpus(path), pool, on_outcome)


async def check_corpus(
    corpus: Corpus, pool: ReplayPool, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> GateReport:
    """Replay every recording of a corpus, and apply its acceptance rules.

    Raises:
        CannotRunError: The code can't be imported.
    """
    began = time.perf_counter()
    outcomes = await pool.replay(corpus.files, on_outcome)
    remaining, accepted, used = [], [], set()
    for outcome in outcomes:
        remaining_drift = []
        for drift in outcome.drift:
            entries = [entry for entry in corpus.accepted if entry.matches(outcome.recording, drift)]
            used.update(entries)
            if entries:
                accepted.append(AcceptedDrift(recording=outcome.recording, drift=drift, reason=entries[0].reason))
            else:
                remaining_drift.append(drift)
        remaining.append(outcome.model_copy(update={"drift": tuple(remaining_drift)}))
    return GateReport(
        outcomes=tuple(remaining),
        accepted=tuple(accepted),
        missing=tuple(corpus.missing),
        stale=tuple(_stale(corpus, remaining, used) if pool.strict else ()),
        notes=tuple(corpus_notes(corpus)),
        strict=pool.strict,
        seconds=time.perf_counter() - began,
    )


def corpus_notes(corpus: Corpus) -> list[str]:
    """Note that a complete corpus without required recordings can't show that one is missing."""
    if corpus.required or not corpus.is_whole or not corpus.files:
        return []
    why = f"no {PATHS_FILE}" if corpus.required is None else f"{PATHS_FILE} lists nothing"
    return [f"{why}: a missing recording can't be noticed"]


def _stale(corpus: Corpus, outcomes: Sequence[Outcome], used: set[AcceptanceRule]) -> list[AcceptanceRule]:
    """Rules without drift. A rule is left out if its recordings lie outside the checked part, or do not replay."""
    found = []
    for entry in corpus.accepted:
        about = [outcome for outcome in outcomes if entry.matches_recording(outcome.recording)]
        is_known = corpus.is_whole or entry.recording in corpus.files
        is_known &= all(outcome.problem is None for outcome in about)
        if entry not in used and is_known:
            found.append(entry)
    return found
