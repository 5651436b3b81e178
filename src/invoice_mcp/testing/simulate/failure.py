"""What an episode or an explored execution failed by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from invoice_mcp.testing.checker.violations import RULES, Violations

MODEL_MISMATCH = "model mismatch"
"""The cause of a failure where an answer or a report is not among those that the reference model allows."""


class ModelMismatchError(AssertionError):
    """An answer or a report is not among those that the reference model allows.

    Args:
        after: The actions performed so far.
    """

    def __init__(self, expected: str, actual: str, after: str) -> None:
        super().__init__(f"expected {expected}, got {actual}\nafter {after}")


@dataclass(frozen=True)
class Failure:
    """Why an episode or an execution failed.

    Attributes:
        causes: The violated rules, or `MODEL_MISMATCH`, or the type of another exception.
        detail: The exception's message.
    """

    causes: tuple[str, ...]
    detail: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """The failure that an exception stands for."""
        if isinstance(error, Violations):
            return cls(tuple(sorted({violation.rule for violation in error.found})), str(error))
        if isinstance(error, ModelMismatchError):
            return cls((MODEL_MISMATCH,), str(error))
        return cls((type(error).__name__,), str(error) or repr(error))

    @property
    def title(self) -> str:
        """The failure in one line, such as `model mismatch: expected REJECTED, got EXPIRED`."""
        if self.causes == (MODEL_MISMATCH,):
            return f"{MODEL_MISMATCH}: {self.detail.splitlines()[0]}"
        if not RULES.keys() >= set(self.causes):
            return f"raised {', '.join(self.causes)}"
        return f"violates {', '.join(f'{rule} ({RULES[rule]})' for rule in self.causes)}"

    @property
    def explanation(self) -> str:
        """What the title does not say."""
        _, _, rest = self.detail.partition("\n")
        return rest if self.causes == (MODEL_MISMATCH,) else self.detail
