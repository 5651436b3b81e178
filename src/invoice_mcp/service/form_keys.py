"""Keys of the forms that this server shows about one run. Pure, except for one random secret per process.

A client answers a form by its key, and servers keep no record of the forms they sent. So each key contains an
HMAC-SHA256 whose secret is the run's nonce: a random text in the workflow's memo, which every server of that Temporal
can read and no tool shows. A client without access to Temporal can't make a key, only return one that it was given.
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
"""How long the form of the tool `approve` may be answered."""

# Secret for runs without a nonce, which release 0.1.0 or another client than `trigger` started. Their keys are valid
# only at the server that made them; another server asks again.
_OWN_NONCE = secrets.token_hex(16)

_CONFIRMATION = re.compile(r"approve-([0-9]{1,12})-([0-9a-f]{64})-[0-9a-f]{32}")
_DECISION = re.compile(r"decision-([0-9]+)-[0-9a-f]{32}")


def text_digest(message: str) -> str:
    """SHA-256, in hex, of a text."""
    return hashlib.sha256(message.encode()).hexdigest()


@dataclass(frozen=True)
class FormKeys:
    """The keys of the forms of one run.

    Args:
        nonce: From the run's memo; None if it has none.
    """

    run_id: str
    nonce: str | None = field(repr=False)

    def confirmation_key(self, decision: DecisionRequest, shown: str, asked_at: int) -> str:
        """Key of the form that confirms an approval by the tool `approve`.

        Args:
            shown: Digest of the form's text.
            asked_at: When the form is sent, in seconds since 1970.
        """
        mac = self._mac("approve", asked_at, shown, decision.by, decision.comment)
        return f"approve-{asked_at}-{shown}-{mac}"

    def verify_confirmation(self, key: str, decision: DecisionRequest, now: float) -> str | None:
        """Digest of the text of the form with this key.

        None if this run has no such form for the decision's name and comment, or if it is older than
        `CONFIRMATION_VALIDITY`.
        """
        parts = _CONFIRMATION.fullmatch(key)
        if parts is None:
            return None
        asked_at, shown = int(parts[1]), parts[2]
        is_ours = hmac.compare_digest(key, self.confirmation_key(decision, shown, asked_at))
        return shown if is_ours and now < asked_at + CONFIRMATION_VALIDITY.total_seconds() else None

    def decision_key(self, number: int, message: str) -> str:
        """Key of the task's form number `number` (from 1) with this text. The same at every server."""
        return f"decision-{number}-{self._mac('decision', number, text_digest(message))}"

    def _mac(self, *parts: str | int) -> str:
        message = json.dumps([self.run_id, *parts]).encode()
        return hmac.new((self.nonce or _OWN_NONCE).encode(), message, hashlib.sha256).hexdigest()[:32]


def form_number(key: str) -> int:
    """The number of a task's form, from its `decision_key`."""
    parts = _DECISION.fullmatch(key)
    if parts is None:
        raise AssertionError(f"{key} is no key of a task's form")
    return int(parts[1])
