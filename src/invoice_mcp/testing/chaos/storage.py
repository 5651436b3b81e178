"""A home on a small file system of its own, which can be full or read-only. Needs the right to mount."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MIB = 1024 * 1024
_SIZE = 48 * _MIB
_WITHIN = 10.0
_FILLER = "filler"


def can_mount() -> bool:
    """Whether this process may mount, as far as that can be told without trying."""
    return sys.platform == "linux" and os.geteuid() == 0 and Path("/bin/mount").exists()


class Storage:
    """The file system of a home, while it is mounted; of a plain folder nothing can be done to it."""

    def __init__(self, home: Path, *, is_mounted: bool) -> None:
        self._home = home
        self._is_mounted = is_mounted
        self._is_read_only = False

    def fill(self) -> bool:
        """Leave no room on it; whether that could be done."""
        if not self._is_mounted or self._is_read_only:
            return False
        with (self._home / _FILLER).open("ab", buffering=0) as file:
            for size in (_MIB, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        return True

    def make_read_only(self) -> bool:
        """What opens a file on it from now on can't write; whether that could be done."""
        if not self._is_mounted or self._is_read_only:
            return False
        self._is_read_only = _mount("--bind", self._home, self._home) and _mount(
            "-o", "remount,bind,ro", self._home, self._home
        )
        return self._is_read_only

    def heal(self) -> None:
        """There is room, and it can be written."""
        if self._is_read_only:
            _unmount(self._home)
            self._is_read_only = False
        if self._is_mounted:
            (self._home / _FILLER).unlink(missing_ok=True)


@contextmanager
def storage_of(home: Path, *, mounts: bool) -> Iterator[Storage]:
    """The storage of a home for the length of the block.

    Raises:
        OSError: It can't be mounted.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not mounts:
        yield Storage(home, is_mounted=False)
        return
    if not _mount("-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "chaos", home):
        raise OSError(f"{home} can't be mounted: a schedule with `home mount` needs the right to mount")
    storage = Storage(home, is_mounted=True)
    try:
        yield storage
    finally:
        storage.heal()
        _unmount(home)


def _mount(*arguments: str | Path) -> bool:
    return _run("mount", *arguments)


def _unmount(home: Path) -> None:
    # Lazily: what was killed a moment ago may still hold a file.
    _run("umount", "-l", home)


def _run(*command: str | Path) -> bool:
    done = subprocess.run(  # noqa: S603 (our own arguments)
        [str(word) for word in command], check=False, capture_output=True, timeout=_WITHIN, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0
