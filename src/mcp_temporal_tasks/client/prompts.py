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
        keys = [key for key in keys if not (is_quiet and self._was_dismissed(requests[key]))]
        self._asked.update(keys)
        self._times.update(keys)
        return keys

    def _was_dismissed(self, request: Any) -> bool:
        return any(_asks_the_same(request, dismissed) for dismissed in self._dismissed)

    def may_ask_again(self, key: str) -> bool:
        """Whether a question whose answer can't be taken is asked once more; if so, it is."""
        if self._times[key] >= _MOST_TIMES:
            return False
        self._asked.discard(key)
        return True

    def is_answered(self, request: Any, response: Mapping[str, Any], now: float) -> None:
        """Remember what was dismissed: a task that needs an answer will ask the same under another key."""
        if response.get("action") in {"cancel", "decline"}:
            self._dismissed.append(request)
            self._quiet_until = now + self._peace
            self._peace = min(2 * self._peace, max(self._peace, _LONGEST_PEACE))


def _asks_the_same(request: Any, before: Any) -> bool:
    """Whether a request asks what one before did, though it may say first what came of that."""
    told, told_before = _message(request), _message(before)
    if told is None or told_before is None or not told.endswith(told_before):
        return bool(request == before)
    return bool(_without_message(request) == _without_message(before))


def _message(request: Any) -> str | None:
    params = request.get("params") if isinstance(request, Mapping) else None
    message = params.get("message") if isinstance(params, Mapping) else None
    return message if isinstance(message, str) and message else None


def _without_message(request: Mapping[str, Any]) -> dict[str, Any]:
    return {**request, "params": {**request["params"], "message": None}}
