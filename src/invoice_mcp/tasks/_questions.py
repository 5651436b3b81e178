"""Which of a task's questions a client asks now: none twice, and what was dismissed not again at once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_MOST_TIMES = 3
_LONGEST_PEACE = 3600.0


class Questions:
    """The questions of one task.

    Args:
        peace: For how many seconds what was dismissed is not asked again; twice as long after each time, to an hour.
    """

    def __init__(self, peace: float) -> None:
        self._peace = peace
        self._asked: set[str] = set()
        self._times: Counter[str] = Counter()
        self._dismissed: list[Any] = []
        self._quiet_until = 0.0

    def to_ask(self, requests: Mapping[str, Any], now: float) -> list[str]:
        """Keys of what is to be asked now, in the order of the task; each is told once."""
        is_quiet = now < self._quiet_until
        keys = [key for key in requests if key not in self._asked]
        keys = [key for key in keys if not (is_quiet and requests[key] in self._dismissed)]
        self._asked.update(keys)
        self._times.update(keys)
        return keys

    def may_ask_again(self, key: str) -> bool:
        """Whether a question whose answer can't be taken is asked once more; if so, it is."""
        if self._times[key] >= _MOST_TIMES:
            return False
        self._asked.discard(key)
        return True

    def was_answered(self, request: Any, response: Mapping[str, Any], now: float) -> None:
        """Remember what was dismissed: a task that needs an answer will ask the same under another key."""
        if response.get("action") in {"cancel", "decline"}:
            self._dismissed.append(request)
            self._quiet_until = now + self._peace
            self._peace = min(2 * self._peace, max(self._peace, _LONGEST_PEACE))
