"""The names of the tools, with an optional prefix for hosts that show tools without their server."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOOLS = ("trigger", "status", "approve", "reject", "cancel", "list")

# Short enough that prefix and tool name, with the prefixes that hosts add, fit the limits of hosts and models.
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_IN_TEXT = re.compile(rf"`({'|'.join(TOOLS)})`")


@dataclass(frozen=True)
class ToolNames:
    """The names of the six tools.

    Args:
        prefix: Precedes each name: `invoice_` gives `invoice_list`.

    Raises:
        ValueError: The prefix is invalid.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise ValueError("it must be a letter, then at most 23 letters, digits, '_' or '-', such as invoice_")

    def of(self, tool: str) -> str:
        """Return the tool's name with the prefix."""
        return f"{self.prefix}{tool}"

    def in_text(self, text: str) -> str:
        """Add the prefix to the tool names in backticks in one of our texts."""
        return _IN_TEXT.sub(rf"`{self.prefix}\1`", text) if self.prefix else text


UNPREFIXED = ToolNames()
