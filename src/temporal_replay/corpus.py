"""The corpus: a folder of recordings, which of them must exist, and which drift is accepted."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from temporal_replay.commands.diff import Drift
from temporal_replay.replay.target import CannotRun

PATHS = "paths.toml"
ACCEPTED = "accepted-drift.toml"


Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text that is more than blanks."""


class Accepted(BaseModel):
    """One entry of accepted-drift.toml.

    Attributes:
        recording: Name of the recording, or a pattern with * for several.
        command, field: As reported.
        old, new: As reported; left out, any.
        reason: Why it is right that it differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording: Said
    command: Said
    field: Said
    reason: Said
    old: str | None = None
    new: str | None = None

    def names(self, recording: str) -> bool:
        """Whether it is about this recording."""
        return fnmatchcase(recording, self.recording)

    def covers(self, recording: str, drift: Drift) -> bool:
        """Whether it is about this drift of this recording."""
        return (
            self.names(recording)
            and (self.command, self.field) == (drift.command, drift.field)
            and self.old in {None, drift.old}
            and self.new in {None, drift.new}
        )


class _AcceptedFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    drift: list[Accepted] = []


_FAULTS = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "string_too_short": "is empty",
    "string_type": "must be a text",
    "list_type": "must be a list of entries, each below [[drift]]",
}


@dataclass(frozen=True)
class Corpus:
    """Recordings, and what is said about them.

    Attributes:
        root: The folder that names of recordings start from.
        files: The recordings, by name.
        required: What must exist, by name, and what it shows; None where nothing says so.
        accepted: Drift that is right.
        is_whole: Whether it is all there is, and not a part of it.
    """

    root: Path
    files: Mapping[str, Path]
    required: Mapping[str, str] | None
    accepted: Sequence[Accepted]
    is_whole: bool = True

    @property
    def missing(self) -> list[str]:
        """What must exist and does not."""
        return sorted(set(self.required or ()) - set(self.files))


def read_corpus(path: Path) -> Corpus:
    """The corpus in a folder, one folder of it, or one recording of it.

    A part of a corpus goes by the lists that lie in the whole one's folder, as far as they are about that part.

    Raises:
        CannotRun: There is no such path, or a list can't be read.
    """
    if not path.exists():
        raise CannotRun(f"there is no {path}. `invoice-mcp histories record` and `... pull` make recordings")
    path = path.resolve()  # "." has no folder above it otherwise
    root = _root(path)
    below = [path] if path.is_file() else [file for file in sorted(path.rglob("*.json")) if not _is_hidden(file, path)]
    files = {file.relative_to(root).as_posix(): file for file in below}
    part = path.relative_to(root).as_posix()
    required = _required(root / PATHS)
    if required is not None and part != ".":
        required = {name: about for name, about in required.items() if name == part or name.startswith(f"{part}/")}
    return Corpus(root, files, required, _accepted(root / ACCEPTED), is_whole=part == ".")


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether it lies in a hidden folder below that folder, such as one that is being recorded."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts[:-1])


def _root(path: Path) -> Path:
    """The folder itself or the next one or two above it that has one of the lists; without any, the folder."""
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, *folder.parents[:2]):
        if (candidate / PATHS).is_file() or (candidate / ACCEPTED).is_file():
            return candidate
    return folder


def _required(path: Path) -> dict[str, str] | None:
    folders = listed_paths(path)
    if folders is None:
        return None
    return {f"{folder}/{name}.json": about for folder, names in folders.items() for name, about in names.items()}


def listed_paths(path: Path) -> dict[str, dict[str, str]] | None:
    """What a paths.toml says, by folder; None if there is none.

    Raises:
        CannotRun: It can't be read, or is none.
    """
    content = _toml(path)
    if content is None:
        return None
    found: dict[str, dict[str, str]] = {}
    for folder, names in content.items():
        if not isinstance(names, dict):
            raise CannotRun(f'{path} is no list of paths: {folder} is no [folder] with lines of name = "what it shows"')
        for name, about in names.items():
            if not isinstance(about, str):
                hint = "; a name with a dot stands in quotes" if isinstance(about, dict) else ""
                raise CannotRun(
                    f"{path} is no list of paths: what {name} of [{folder}] shows must be said in a text{hint}"
                )
        found[folder] = names
    return found


def _accepted(path: Path) -> list[Accepted]:
    content = _toml(path)
    try:
        return _AcceptedFile.model_validate(content or {}).drift
    except ValidationError as error:
        faults = "; ".join(_told(each["loc"], each["type"], each["msg"]) for each in error.errors())
        raise CannotRun(f"{path} is no list of accepted drift: {faults}") from None


def _told(where: Sequence[str | int], kind: str, told: str) -> str:
    """One fault of an accepted-drift.toml, in its own terms."""
    entry = f"[[drift]] number {where[1] + 1}" if len(where) > 1 and isinstance(where[1], int) else ""
    names = [str(each) for each in where if isinstance(each, str) and not (entry and each == "drift")]
    what = _FAULTS.get(kind, told[:1].lower() + told[1:])
    return ", ".join(filter(None, [entry, " ".join([*names, what])]))


def _toml(path: Path) -> dict[str, object] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CannotRun(f"{path} can't be read: {error}") from None


def paths_text(folders: Mapping[str, Mapping[str, str]]) -> str:
    """The text of paths.toml."""
    lines = ["# Which recordings must exist, and what each shows. Written by `invoice-mcp histories record`.", ""]
    for folder, names in sorted(folders.items()):
        lines += [f"[{quoted(folder)}]", *(f"{quoted(name)} = {quoted(about)}" for name, about in names.items()), ""]
    return "\n".join(lines)


def quoted(text: str) -> str:
    """A TOML text."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def entry_text(recording: str, drift: Drift) -> str:
    """The entry of accepted-drift.toml that would accept a drift; its reason is for a person to give."""
    entry = {
        "recording": recording,
        "command": drift.command,
        "field": drift.field,
        "old": drift.old,
        "new": drift.new,
        "reason": "",
    }
    return "\n".join(["[[drift]]", *(f"{key} = {quoted(value)}" for key, value in entry.items())])


def add_to_paths(root: Path, folder: str, names: Mapping[str, str]) -> None:
    """Say in paths.toml which recordings a folder must have, and what each shows.

    Raises:
        CannotRun: The file can't be read.
    """
    folders = listed_paths(root / PATHS) or {}
    (root / PATHS).write_text(paths_text({**folders, folder: dict(names)}), encoding="utf-8")
