"""Which of a task's questions a client asks now: none twice, and what was dismissed not again at once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_MAX_ATTEMPTS = 3
_MAX_BACKOFF = 3600.0


class PromptTracker:
    """The questions of one task.

    Args:
        peace: For how many seconds what was dismissed is not asked again; twice as long after each time, to an hour.
    """

    def __init__(self, backoff: float) -> None:
        self._backoff = backoff
        self._asked: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._dismissed: list[Any] = []
        self._suppressed_until = 0.0

    def due_prompts(self, requests: Mapping[str, Any], now: float) -> list[str]:
        """Keys of what is to be asked now, in the order of the task; each is told once."""
        is_suppressed = now < self._suppressed_until
        keys = [key for key in requests if key not in self._asked]
        keys = [key for key in keys if not (is_suppressed and self._was_dismissed(requests[key]))]
        self._asked.update(keys)
        self._attempts.update(keys)
        return keys

    def _was_dismissed(self, request: Any) -> bool:
        return any(_is_same_prompt(request, dismissed) for dismissed in self._dismissed)

    def allow_retry(self, key: str) -> bool:
        """Whether a question whose answer can't be taken is asked once more; if so, it is."""
        if self._attempts[key] >= _MAX_ATTEMPTS:
            return False
        self._asked.discard(key)
        return True

    def record_answer(self, request: Any, response: Mapping[str, Any], now: float) -> None:
        """Remember what was dismissed: a task that needs an answer will ask the same under another key."""
        if response.get("action") in {"cancel", "decline"}:
            self._dismissed.append(request)
            self._suppressed_until = now + self._backoff
            self._backoff = min(2 * self._backoff, max(self._backoff, _MAX_BACKOFF))


def _is_same_prompt(request: Any, before: Any) -> bool:
    """Whether a request asks what one before did, though it may say first what came of that."""
    message, message_before = _message(request), _message(before)
    if message is None or message_before is None or not message.endswith(message_before):
        return bool(request == before)
    return bool(_without_message(request) == _without_message(before))


def _message(request: Any) -> str | None:
    params = request.get("params") if isinstance(request, Mapping) else None
    message = params.get("message") if isinstance(params, Mapping) else None
    return message if isinstance(message, str) and message else None


def _without_message(request: Mapping[str, Any]) -> dict[str, Any]:
    return {**request, "params": {**request["params"], "message": None}}
