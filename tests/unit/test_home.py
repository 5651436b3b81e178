"""The home is for its user only: made so, shut when it was open, refused where it can't be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.temporal.embedded import EmbeddedTemporal
from invoice_mcp.temporal.home import make_private, open_private
from tests.requirements import requirement

OPEN = 0o666


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def an_open_home(home: Path, permissions: int = 0o777) -> Path:
    """As an earlier version left it, or another program."""
    home.mkdir()
    home.chmod(permissions)
    for name in ("temporal.db", "temporal.db-wal", "temporal.log.1", "members.lock", "embedded.json", "payments.db"):
        (home / name).write_text("{}")
        (home / name).chmod(OPEN)
    return home


@requirement("EMBEDDED-PRIVATE")
def test_a_new_home_is_its_users_only_and_nothing_is_said(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_private(home)
    make_private(home)
    assert mode(home) == 0o700
    assert caplog.text == ""


@requirement("EMBEDDED-PRIVATE")
@pytest.mark.parametrize("permissions", [0o777, 0o755, 0o750, 0o701])
def test_a_home_that_others_could_enter_is_shut_with_its_files_and_that_is_said(
    home: Path, permissions: int, caplog: pytest.LogCaptureFixture
) -> None:
    make_private(an_open_home(home, permissions))
    assert mode(home) == 0o700
    assert {mode(path) for path in home.iterdir()} == {0o600}
    (told,) = caplog.messages
    assert f"{home} (was {permissions:04o})" in told
    assert "temporal.db (was 0666)" in told
    make_private(home)
    assert len(caplog.messages) == 1, "said once"


def test_files_that_are_not_of_this_program_are_left_as_they_are(home: Path) -> None:
    an_open_home(home)
    (home / "notes").touch(OPEN)
    (home / "notes").chmod(0o644)
    make_private(home)
    assert mode(home / "notes") == 0o644


@requirement("EMBEDDED-PRIVATE")
@pytest.mark.parametrize("name", ["uv.lock", "temporal.toml", "temporal.py", "demo-1"])
def test_a_name_like_ours_does_not_make_a_directory_ours(home: Path, name: str) -> None:
    home.mkdir()
    home.chmod(0o755)
    (home / name).write_text("of somebody else")
    (home / name).chmod(0o644)
    with pytest.raises(ConfigurationError, match="not only for this"):
        make_private(home)
    assert (mode(home), mode(home / name)) == (0o755, 0o644)


@requirement("EMBEDDED-PRIVATE")
def test_a_directory_that_is_not_only_ours_is_not_shut_but_refused(home: Path) -> None:
    home.mkdir(0o755)
    (home / "other-program").mkdir()
    with pytest.raises(ConfigurationError, match=r"not only for this.*INVOICE_MCP_HOME"):
        make_private(home)
    assert mode(home) == 0o755


def test_a_directory_for_everybodys_files_is_refused(home: Path) -> None:
    an_open_home(home, 0o1777)
    with pytest.raises(ConfigurationError, match="directory of its own"):
        make_private(home)
    assert mode(home) == 0o1777


@requirement("EMBEDDED-PRIVATE")
@pytest.mark.parametrize("is_link", [False, True])
def test_another_users_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool) -> None:
    place = tmp_path / "theirs"
    place.mkdir(0o700)
    home = place
    if is_link:
        home = tmp_path / "link"
        home.symlink_to(place)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match=r"another user.*INVOICE_MCP_HOME"):
        make_private(home)


def test_a_link_of_ones_own_to_a_directory_of_ones_own_is_a_home(tmp_path: Path) -> None:
    an_open_home(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    make_private(tmp_path / "link")
    assert mode(tmp_path / "disk") == 0o700
    assert mode(tmp_path / "disk" / "temporal.db") == 0o600


@requirement("EMBEDDED-PRIVATE")
@pytest.mark.parametrize(
    "name", ["members.lock", "embedded.lock", "embedded.json", "temporal.log", "temporal.db", "payments.db"]
)
async def test_a_symbolic_link_in_the_home_is_refused_and_not_followed(tmp_path: Path, home: Path, name: str) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    home.mkdir(0o700)
    (home / name).symlink_to(target)
    with pytest.raises(ConfigurationError, match=rf"{name} is a symbolic link.*Remove it"):
        await EmbeddedTemporal(home).__aenter__()
    assert target.read_text() == "mine"


def test_a_file_is_opened_for_its_user_only_and_never_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for permissions in (None, OPEN):
        if permissions is not None:
            path.chmod(permissions)
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
        assert mode(path) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "not-there")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        open_private(tmp_path / "link", os.O_RDWR | os.O_CREAT)
    assert not (tmp_path / "not-there").exists()


def test_what_is_no_file_or_another_users_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="is no file"):
        open_private(tmp_path / "pipe", os.O_RDWR)
    (tmp_path / "file").touch()
    owner = (tmp_path / "file").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        open_private(tmp_path / "file", os.O_RDWR)


def test_where_modes_can_not_be_kept_that_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_open_home(home)
    monkeypatch.setattr(os, "fchmod", lambda *_arguments: None)
    with pytest.raises(ConfigurationError, match="keeps no modes"):
        make_private(home)
