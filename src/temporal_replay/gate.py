"""The gate: does the code still replay every recording, to the letter?"""

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
    """A drift that an entry of accepted-drift.toml says is right."""

    model_config = ConfigDict(frozen=True)

    recording: str
    drift: Drift
    reason: str


class GateReport(BaseModel):
    """What the gate found.

    Attributes:
        outcomes: Of every recording, in the order of their names; drift that is accepted is not among it.
        accepted: What is.
        missing: Recordings that must exist and do not.
        stale: Entries of accepted-drift.toml that are about nothing any more.
        notes: What the gate could not look at; that fails nothing.
        seconds: All of it took.
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
        """The recordings that do not replay, or with drift."""
        return tuple(outcome for outcome in self.outcomes if outcome.problem or outcome.drift)

    @property
    def is_clean(self) -> bool:
        """Whether the gate lets the code pass. With nothing to replay it never does."""
        return bool(self.outcomes) and not (self.broken or self.missing or self.stale)


async def check_histories(
    path: Path, pool: ReplayPool, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> GateReport:
    """Replay every recording below a path.

    Args:
        path: A corpus, a folder of one, or one recording.
        told: Called with each outcome as it comes.

    Raises:
        CannotRunError: There is no such path, a list of the corpus can't be read, or the code can't be imported.
    """
    return await check_corpus(read_corpus(path), pool, on_outcome)


async def check_corpus(
    corpus: Corpus, pool: ReplayPool, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> GateReport:
    """As `check_histories`, of a corpus that is read already."""
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
    """Of a corpus that does not say what must be there, that; of a part of it nobody expects that."""
    if corpus.required or not corpus.is_whole or not corpus.files:
        return []
    why = f"no {PATHS_FILE}" if corpus.required is None else f"{PATHS_FILE} lists nothing"
    return [f"{why}: a missing recording can't be noticed"]


def _stale(corpus: Corpus, outcomes: Sequence[Outcome], used: set[AcceptanceRule]) -> list[AcceptanceRule]:
    """Entries without drift. Of what lies outside of a part, or does not replay, nothing can be said."""
    found = []
    for entry in corpus.accepted:
        about = [outcome for outcome in outcomes if entry.matches_recording(outcome.recording)]
        is_known = corpus.is_whole or entry.recording in corpus.files
        is_known &= all(outcome.problem is None for outcome in about)
        if entry not in used and is_known:
            found.append(entry)
    return found
