"""A clock that jumps, for processes that are started with libfaketime: all but Temporal's server, a Go program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# The variant for processes with threads.
_NAME = "libfaketimeMT.so.1"
_USUAL = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


def libfaketime() -> Path | None:
    """The library, where the machine has it: in LD_LIBRARY_PATH, or where packages put it."""
    named = (Path(each) / _NAME for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each)
    patterns = (f"faketime/{_NAME}", f"*/faketime/{_NAME}")
    usual = (found for place in _USUAL for pattern in patterns for found in sorted(Path(place).glob(pattern)))
    return next((each for each in (*named, *usual) if each.exists()), None)


class Clock:
    """The clock of all processes of an episode, but for Temporal's server; kept in a file that libfaketime reads."""

    def __init__(self, file: Path, *, can_jump: bool) -> None:
        """Prepare.

        Raises:
            OSError: It is to jump, and the machine has no libfaketime.
        """
        self._file = file
        self._library = libfaketime() if can_jump else None
        if can_jump and self._library is None:
            raise OSError("a schedule with `clock fake` needs libfaketime, in LD_LIBRARY_PATH or where packages put it")
        self.heal()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process is started with."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Seconds. Without a cache each look at the clock reads the file.
            "FAKETIME_CACHE_DURATION": "1",
            # As with a real clock: what measures spans goes on.
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: float) -> bool:
        """Be so far ahead of the real time, or behind it; whether that could be done."""
        if self._library is None:
            return False
        self._write(seconds)
        return True

    def heal(self) -> None:
        """Be right again."""
        if self._library is not None:
            self._write(0)

    def _write(self, seconds: float) -> None:
        # Whoever reads it in between sees the old one or the new one.
        part = self._file.with_suffix(".part")
        part.write_text(f"{seconds:+g}s\n", encoding="ascii")
        part.replace(self._file)
