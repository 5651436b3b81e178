"""The journal of an episode: all that happened, by time, and the events that aimed faults wait for."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

Handler = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Entry:
    """Something that happened.

    Attributes:
        at: Seconds since the episode began.
        number: The how-manieth of its kind; 0 for a note, which is no event.
    """

    at: float
    who: str
    what: str
    kind: str = ""
    number: int = 0

    def __str__(self) -> str:
        event = f" [{self.kind}#{self.number}]" if self.kind else ""
        return f"{self.at:8.3f}  {self.who:<9} {self.what}{event}"


class Journal:
    """Keeps entries, and calls whoever waits for an event.

    Attributes:
        entries: All, in order.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Begin now.

        Args:
            file: Where each entry is written, too, a line of JSON each.
        """
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._handlers: dict[tuple[str, int], list[Handler]] = defaultdict(list)
        self._file = file
        self.entries: list[Entry] = []

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self._began

    def note(self, who: str, what: str) -> None:
        """Keep what nobody waits for."""
        self._keep(Entry(self.now, who, what))

    def on(self, kind: str, number: int, handler: Handler) -> None:
        """Have a handler called when this event happens, before whoever reports it goes on."""
        self._handlers[kind, number].append(handler)

    def forget(self) -> int:
        """Call no handler any more; how many are left that were never called."""
        left = sum(len(handlers) for handlers in self._handlers.values())
        self._handlers.clear()
        return left

    async def event(self, kind: str, who: str, what: str) -> None:
        """Keep an event. Returns when every handler that waited for it has returned."""
        self._counts[kind] += 1
        number = self._counts[kind]
        self._keep(Entry(self.now, who, what, kind, number))
        for handler in self._handlers.pop((kind, number), []):
            await handler()

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(entry)) + "\n")
