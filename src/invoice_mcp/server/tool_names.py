"""What the tools are called: with a prefix of the user's choice, for hosts that show the tools of all servers alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOOLS = ("trigger", "status", "approve", "reject", "cancel", "list")

# With the longest name of a tool it is still shorter than what hosts and models take, prefixes of their own included.
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_IN_TEXT = re.compile(rf"`({'|'.join(TOOLS)})`")


@dataclass(frozen=True)
class ToolNames:
    """The names of the six tools.

    Args:
        prefix: Stands before each: `invoice_` makes `invoice_list`.

    Raises:
        ValueError: The prefix can't begin a tool's name.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise ValueError("it must be a letter, then at most 23 letters, digits, '_' or '-', such as invoice_")

    def of(self, tool: str) -> str:
        """The name under which hosts see a tool."""
        return f"{self.prefix}{tool}"

    def in_text(self, text: str) -> str:
        """A text of ours, in which tools are named in backticks, with the names that hosts see."""
        return _IN_TEXT.sub(rf"`{self.prefix}\1`", text) if self.prefix else text


UNPREFIXED = ToolNames()
"""The names without a prefix."""
