"""The directory of all local state, private to its user."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import platformdirs

from invoice_mcp.domain.errors import ConfigurationError

_OTHERS = 0o077
# Full names, and databases with SQLite's auxiliary files. A broader pattern such as *.lock would match files of others.
_OURS = (
    *("embedded.json", "embedded.lock", "members.lock", "temporal.id*", "temporal.log*"),
    *("temporal.db", "temporal.db-*", "temporal.db.*", "payments.db", "payments.db-*", "payments.db.*"),
)
_LOOK_AT = "Look at INVOICE_MCP_HOME"

_log = logging.getLogger(__name__)


def default_home() -> Path:
    """Directory of all local state: INVOICE_MCP_HOME, or in the user's data directory. Absolute.

    Raises:
        ConfigurationError: It is below the home of a user who does not exist.
    """
    home = Path(os.environ.get("INVOICE_MCP_HOME") or platformdirs.user_data_path("invoice-mcp"))
    # A `~` in a host's configuration is not expanded by a shell.
    try:
        return home.expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"There is no {home.parts[0]}. Look at INVOICE_MCP_HOME") from None


def make_private(home: Path) -> None:
    """Create the directory if it is missing. Make it, and our files in it, accessible to this user only.

    Raises:
        ConfigurationError: It, or a file in it, is another user's or a symbolic link; or other programs use it.
        OSError: It can't be created, or is no directory.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.is_symlink() and home.lstat().st_uid not in {0, os.geteuid()}:
        raise ConfigurationError(f"{home} is a symbolic link of another user. {_LOOK_AT}")
    directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid():
            raise ConfigurationError(f"{home} belongs to another user, who could change what is paid. {_LOOK_AT}")
        shut = []
        if found.st_mode & _OTHERS:
            _require_nothing_else(home, found.st_mode)
            os.fchmod(directory, 0o700)
            # Some file systems have fixed modes.
            if os.fstat(directory).st_mode & _OTHERS:
                raise ConfigurationError(f"{home} can't be shut to other users: its file system keeps no modes")
            shut.append(f"{home} (was {stat.S_IMODE(found.st_mode):04o})")
    finally:
        os.close(directory)
    # From here on no other user can change its content.
    for path in _files(home):
        # A server that is just ending removes some.
        with suppress(FileNotFoundError):
            was = _require_regular(path, path.lstat())
            if was & _OTHERS:
                path.chmod(0o600)
                shut.append(f"{path.name} (was {was:04o})")
    if shut:
        _log.warning("Other users could get at %s: now only you can", ", ".join(shut))


def open_private(path: Path, flags: int) -> int:
    """Open a file that is private to this user, and create it if `flags` say so. Does not follow symbolic links.

    Raises:
        ConfigurationError: It is a symbolic link, another user's, or no file.
        OSError: As `os.open`.
    """
    if path.is_symlink():
        raise ConfigurationError(_link(path))
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if _require_regular(path, os.fstat(descriptor)) & _OTHERS:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _files(home: Path) -> Iterator[Path]:
    return (path for path in home.iterdir() if _is_ours(path.name) and (path.is_symlink() or not path.is_dir()))


def _is_ours(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _OURS)


def _require_nothing_else(home: Path, mode: int) -> None:
    """Refuse a directory that others use, such as /tmp: making it private would break other programs."""
    names = [path.name for path in home.iterdir()]
    if mode & stat.S_ISVTX or (names and not any(map(_is_ours, names))):
        raise ConfigurationError(
            f"{home} is open to other users, and not only for this. Choose a directory of its own, or shut it yourself:"
            f" chmod 700. {_LOOK_AT}"
        )


def _require_regular(path: Path, found: os.stat_result) -> int:
    """Check that it is a regular file of this user. Returns its permissions."""
    if stat.S_ISLNK(found.st_mode):
        raise ConfigurationError(_link(path))
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is no file. Remove it")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} belongs to another user. Remove it, or choose another INVOICE_MCP_HOME")
    return stat.S_IMODE(found.st_mode)


def _link(path: Path) -> str:
    return f"{path} is a symbolic link; where it leads may be another user's choice. Remove it"
