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
from temporal_replay.replay.target import CannotRunError

PATHS_FILE = "paths.toml"
ACCEPTED_FILE = "accepted-drift.toml"


NonBlankText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text that is more than blanks."""


class AcceptanceRule(BaseModel):
    """One entry of accepted-drift.toml.

    Attributes:
        recording: Name of the recording, or a pattern with * for several.
        command, field: As reported.
        old, new: As reported; left out, any.
        reason: Why it is right that it differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording: NonBlankText
    command: NonBlankText
    field: NonBlankText
    reason: NonBlankText
    old: str | None = None
    new: str | None = None

    def matches_recording(self, recording: str) -> bool:
        """Whether it is about this recording."""
        return fnmatchcase(recording, self.recording)

    def matches(self, recording: str, drift: Drift) -> bool:
        """Whether it is about this drift of this recording."""
        return (
            self.matches_recording(recording)
            and (self.command, self.field) == (drift.command, drift.field)
            and self.old in {None, drift.old}
            and self.new in {None, drift.new}
        )


class _AcceptedFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    drift: list[AcceptanceRule] = []


_ERROR_TEXTS = {
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
    accepted: Sequence[AcceptanceRule]
    is_whole: bool = True

    @property
    def missing(self) -> list[str]:
        """What must exist and does not."""
        return sorted(set(self.required or ()) - set(self.files))


def read_corpus(path: Path) -> Corpus:
    """The corpus in a folder, one folder of it, or one recording of it.

    A part of a corpus goes by the lists that lie in the whole one's folder, as far as they are about that part.

    Raises:
        CannotRunError: There is no such path, or a list can't be read.
    """
    if not path.exists():
        raise CannotRunError(f"there is no {path}. `invoice-mcp histories record` and `... pull` make recordings")
    path = path.resolve()  # "." has no folder above it otherwise
    root = _root(path)
    recordings = (
        [path] if path.is_file() else [file for file in sorted(path.rglob("*.json")) if not _is_hidden(file, path)]
    )
    files = {file.relative_to(root).as_posix(): file for file in recordings}
    part = path.relative_to(root).as_posix()
    required = _read_required(root / PATHS_FILE)
    if required is not None and part != ".":
        required = {
            name: description for name, description in required.items() if name == part or name.startswith(f"{part}/")
        }
    return Corpus(root, files, required, _read_acceptance_rules(root / ACCEPTED_FILE), is_whole=part == ".")


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether it lies in a hidden folder below that folder, such as one that is being recorded."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts[:-1])


def _root(path: Path) -> Path:
    """The folder itself or the next one or two above it that has one of the lists; without any, the folder."""
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, *folder.parents[:2]):
        if (candidate / PATHS_FILE).is_file() or (candidate / ACCEPTED_FILE).is_file():
            return candidate
    return folder


def _read_required(path: Path) -> dict[str, str] | None:
    folders = read_paths(path)
    if folders is None:
        return None
    return {
        f"{folder}/{name}.json": description for folder, names in folders.items() for name, description in names.items()
    }


def read_paths(path: Path) -> dict[str, dict[str, str]] | None:
    """What a paths.toml says, by folder; None if there is none.

    Raises:
        CannotRunError: It can't be read, or is none.
    """
    content = _read_toml(path)
    if content is None:
        return None
    found: dict[str, dict[str, str]] = {}
    for folder, names in content.items():
        if not isinstance(names, dict):
            raise CannotRunError(
                f'{path} is no list of paths: {folder} is no [folder] with lines of name = "what it shows"'
            )
        for name, description in names.items():
            if not isinstance(description, str):
                hint = "; a name with a dot stands in quotes" if isinstance(description, dict) else ""
                raise CannotRunError(
                    f"{path} is no list of paths: what {name} of [{folder}] shows must be said in a text{hint}"
                )
        found[folder] = names
    return found


def _read_acceptance_rules(path: Path) -> list[AcceptanceRule]:
    content = _read_toml(path)
    try:
        return _AcceptedFile.model_validate(content or {}).drift
    except ValidationError as error:
        faults = "; ".join(_describe_error(each["loc"], each["type"], each["msg"]) for each in error.errors())
        raise CannotRunError(f"{path} is no list of accepted drift: {faults}") from None


def _describe_error(where: Sequence[str | int], kind: str, message: str) -> str:
    """One fault of an accepted-drift.toml, in its own terms."""
    entry = f"[[drift]] number {where[1] + 1}" if len(where) > 1 and isinstance(where[1], int) else ""
    names = [str(each) for each in where if isinstance(each, str) and not (entry and each == "drift")]
    what = _ERROR_TEXTS.get(kind, message[:1].lower() + message[1:])
    return ", ".join(filter(None, [entry, " ".join([*names, what])]))


def _read_toml(path: Path) -> dict[str, object] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CannotRunError(f"{path} can't be read: {error}") from None


def render_paths(folders: Mapping[str, Mapping[str, str]]) -> str:
    """The text of paths.toml."""
    lines = ["# Which recordings must exist, and what each shows. Written by `invoice-mcp histories record`.", ""]
    for folder, names in sorted(folders.items()):
        lines += [
            f"[{quoted(folder)}]",
            *(f"{quoted(name)} = {quoted(description)}" for name, description in names.items()),
            "",
        ]
    return "\n".join(lines)


def quoted(text: str) -> str:
    """A TOML text."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def acceptance_entry(recording: str, drift: Drift) -> str:
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
        CannotRunError: The file can't be read.
    """
    folders = read_paths(root / PATHS_FILE) or {}
    (root / PATHS_FILE).write_text(render_paths({**folders, folder: dict(names)}), encoding="utf-8")
