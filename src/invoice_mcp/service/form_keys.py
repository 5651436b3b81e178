"""Keys of the questions that this server asks about one run. Pure, but for one random secret a process.

A client answers a question by naming its key, and servers keep no record of what they asked. So each key carries an
HMAC-SHA256, made with the run's nonce: a random text in the memo of its workflow, which every server of that Temporal
can read and which no tool shows. Whoever can't read Temporal can't make a key, only send back one that it was given.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from invoice_mcp.domain.report import DecisionRequest

CONFIRMATION_VALIDITY = timedelta(hours=1)
"""How long the question of the tool `approve` may be answered."""

# For a run that has no nonce: release 0.1.0 began it, or somebody past `trigger`. Then a question counts only at the
# server that asked it; another one asks again.
_OWN_NONCE = secrets.token_hex(16)

_CONFIRMATION = re.compile(r"approve-([0-9]{1,12})-([0-9a-f]{64})-[0-9a-f]{32}")
_DECISION = re.compile(r"decision-([0-9]+)-[0-9a-f]{32}")


def text_digest(message: str) -> str:
    """SHA-256, in hex, of a text that is shown."""
    return hashlib.sha256(message.encode()).hexdigest()


@dataclass(frozen=True)
class FormKeys:
    """The keys of one run.

    Args:
        nonce: The run's; None: it has none.
    """

    run_id: str
    nonce: str | None = field(repr=False)

    def confirmation_key(self, decision: DecisionRequest, shown: str, asked_at: int) -> str:
        """Key of the question whether this approval is meant.

        Args:
            shown: Digest of the question's text.
            asked_at: When it is asked, in seconds since 1970.
        """
        mac = self._mac("approve", asked_at, shown, decision.by, decision.comment)
        return f"approve-{asked_at}-{shown}-{mac}"

    def verify_confirmation(self, key: str, decision: DecisionRequest, now: float) -> str | None:
        """Digest of the text of the question with this key; None: it was not asked about this run, name and comment,
        or longer than `CONFIRMATION_VALIDITY` ago."""
        parts = _CONFIRMATION.fullmatch(key)
        if parts is None:
            return None
        asked_at, shown = int(parts[1]), parts[2]
        is_ours = hmac.compare_digest(key, self.confirmation_key(decision, shown, asked_at))
        return shown if is_ours and now < asked_at + CONFIRMATION_VALIDITY.total_seconds() else None

    def decision_key(self, number: int, message: str) -> str:
        """Key of the task's form number `number` (from 1) with this text: the same whichever server is asked."""
        return f"decision-{number}-{self._mac('decision', number, text_digest(message))}"

    def _mac(self, *parts: str | int) -> str:
        told = json.dumps([self.run_id, *parts]).encode()
        return hmac.new((self.nonce or _OWN_NONCE).encode(), told, hashlib.sha256).hexdigest()[:32]


def form_number(key: str) -> int:
    """Which form of a task has this key, as `decision_key` made it."""
    parts = _DECISION.fullmatch(key)
    if parts is None:
        raise AssertionError(f"{key} is no key of a task's form")
    return int(parts[1])
