"""Decides which input requests of a task are put to the user now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_MAX_ATTEMPTS = 3
_MAX_BACKOFF = 3600.0


class PromptTracker:
    """Tracks the input requests of one task.

    Args:
        backoff: Seconds during which a dismissed request is not repeated; doubles each time, up to an hour.
    """

    def __init__(self, backoff: float) -> None:
        self._backoff = backoff
        self._asked: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._dismissed: list[Any] = []
        self._suppressed_until = 0.0

    def due_prompts(self, requests: Mapping[str, Any], now: float) -> list[str]:
        """Keys of the requests to put to the user now, in order. Each key is returned once."""
        is_suppressed = now < self._suppressed_until
        keys = [key for key in requests if key not in self._asked]
        keys = [key for key in keys if not (is_suppressed and self._was_dismissed(requests[key]))]
        self._asked.update(keys)
        self._attempts.update(keys)
        return keys

    def _was_dismissed(self, request: Any) -> bool:
        return any(_is_same_prompt(request, dismissed) for dismissed in self._dismissed)

    def allow_retry(self, key: str) -> bool:
        """Allow another prompt for a rejected response; False after the maximum number of attempts."""
        if self._attempts[key] >= _MAX_ATTEMPTS:
            return False
        self._asked.discard(key)
        return True

    def record_answer(self, request: Any, response: Mapping[str, Any], now: float) -> None:
        """Record a dismissal: a task that needs an answer repeats the request under another key."""
        if response.get("action") in {"cancel", "decline"}:
            self._dismissed.append(request)
            self._suppressed_until = now + self._backoff
            self._backoff = min(2 * self._backoff, max(self._backoff, _MAX_BACKOFF))


def _is_same_prompt(request: Any, before: Any) -> bool:
    """Whether a request repeats an earlier one. Its message may have a prefix, such as what came of the earlier one."""
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
