"""A corpus: a folder of recordings, which recordings it must have, and which drift is accepted."""

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
"""A text that is not blank."""


class AcceptanceRule(BaseModel):
    """One entry of accepted-drift.toml.

    Attributes:
        recording: Name of a recording, or a pattern with `*`.
        command, field: As the report shows them.
        old, new: As the report shows them; None matches any value.
        reason: Why the difference is intended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording: NonBlankText
    command: NonBlankText
    field: NonBlankText
    reason: NonBlankText
    old: str | None = None
    new: str | None = None

    def matches_recording(self, recording: str) -> bool:
        """Whether the rule applies to this recording."""
        return fnmatchcase(recording, self.recording)

    def matches(self, recording: str, drift: Drift) -> bool:
        """Whether the rule accepts this drift of this recording."""
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
    "extra_forbidden": "is not a known key",
    "string_too_short": "is empty",
    "string_type": "must be a string",
    "list_type": "must be a list of entries, each below [[drift]]",
}


@dataclass(frozen=True)
class Corpus:
    """Recordings and the lists beside them.

    Attributes:
        root: The folder that names of recordings are relative to.
        files: The recordings, by name.
        required: Descriptions of the recordings that must exist, by name; None without a paths.toml.
        accepted: The acceptance rules.
        is_whole: Whether `files` is the whole corpus, not a part of it.
    """

    root: Path
    files: Mapping[str, Path]
    required: Mapping[str, str] | None
    accepted: Sequence[AcceptanceRule]
    is_whole: bool = True

    @property
    def missing(self) -> list[str]:
        """Names of required recordings that do not exist."""
        return sorted(set(self.required or ()) - set(self.files))


def read_corpus(path: Path) -> Corpus:
    """Read a corpus, one folder of it, or one recording of it.

    A part of a corpus uses the lists in the root folder of the corpus, restricted to that part.

    Example:
        corpus = read_corpus(Path("histories/from_1.0"))

    Raises:
        CannotRunError: The path does not exist, or a list can't be read.
    """
    if not path.exists():
        raise CannotRunError(f"{path} does not exist. Make recordings with `histories record` or `histories pull`")
    path = path.resolve()  # a relative "." has no parent
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
    """Whether the file lies in a hidden folder below `folder`. A release that is being recorded does."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts[:-1])


def _root(path: Path) -> Path:
    """The folder, or a folder up to two levels above it, that contains a list; without any list, the folder."""
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
    """Read a paths.toml: descriptions of recordings, by folder and name; None if there is no such file.

    Raises:
        CannotRunError: The file can't be read, or has another structure.
    """
    content = _read_toml(path)
    if content is None:
        return None
    found: dict[str, dict[str, str]] = {}
    for folder, names in content.items():
        if not isinstance(names, dict):
            raise CannotRunError(
                f'{path} is not a list of paths: {folder} must be a [folder] with lines name = "what it shows"'
            )
        for name, description in names.items():
            if not isinstance(description, str):
                hint = "; quote a name with a dot" if isinstance(description, dict) else ""
                raise CannotRunError(f"{path} is not a list of paths: {name} of [{folder}] must be a string{hint}")
        found[folder] = names
    return found


def _read_acceptance_rules(path: Path) -> list[AcceptanceRule]:
    content = _read_toml(path)
    try:
        return _AcceptedFile.model_validate(content or {}).drift
    except ValidationError as error:
        faults = "; ".join(_describe_error(each["loc"], each["type"], each["msg"]) for each in error.errors())
        raise CannotRunError(f"{path} is not a list of accepted drift: {faults}") from None


def _describe_error(where: Sequence[str | int], kind: str, message: str) -> str:
    """Describe one validation error in the terms of the TOML file."""
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
    """Render the text of paths.toml."""
    lines = ["# Which recordings must exist, and what each shows. Written by `invoice-mcp histories record`.", ""]
    for folder, names in sorted(folders.items()):
        lines += [
            f"[{_quote(folder)}]",
            *(f"{_quote(name)} = {_quote(description)}" for name, description in names.items()),
            "",
        ]
    return "\n".join(lines)


def _quote(text: str) -> str:
    """Quote a TOML string. JSON strings are valid TOML strings, except for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def acceptance_entry(recording: str, drift: Drift) -> str:
    """Render the entry of accepted-drift.toml that would accept a drift. Its reason is left for a person to fill in."""
    entry = {
        "recording": recording,
        "command": drift.command,
        "field": drift.field,
        "old": drift.old,
        "new": drift.new,
        "reason": "",
    }
    return "\n".join(["[[drift]]", *(f"{key} = {_quote(value)}" for key, value in entry.items())])


def add_to_paths(root: Path, folder: str, names: Mapping[str, str]) -> None:
    """Add the recordings of a folder, with their descriptions, to paths.toml.

    Raises:
        CannotRunError: The file can't be read.
    """
    folders = read_paths(root / PATHS_FILE) or {}
    (root / PATHS_FILE).write_text(render_paths({**folders, folder: dict(names)}), encoding="utf-8")
