"""Plays the paths on a real server, and records their histories for a release."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from faker import Faker
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

from invoice_mcp.domain.names import TASK_QUEUE, line_workflow_id, workflow_id_for
from invoice_mcp.testing import EnvironmentPool, World, kinds, open_world
from invoice_mcp.testing.recordings.context import PathContext
from invoice_mcp.testing.recordings.paths import PATHS, InvoicePath
from invoice_mcp.testing.recordings.target import TARGET
from temporal_replay import (
    CannotRunError,
    Recording,
    ReplayPool,
    add_to_paths,
    check_histories,
    normalize,
    write_recording,
)
from temporal_replay.corpus import PATHS_FILE, read_paths

_RELEASE = re.compile(r"[A-Za-z0-9._+-]+")


def release_folder(release: str) -> str:
    """The name of a release's folder in the corpus."""
    return f"from_{release}"


async def record_release(
    root: Path, release: str, *, paths: Sequence[InvoicePath] = PATHS, on_path: Callable[[InvoicePath], None]
) -> list[str]:
    """Play the paths, check that every recording replays, and write the release's folder: all of it or nothing.

    Args:
        root: The corpus.
        on_path: Called with each path before it is played.

    Returns:
        The names of the recordings.

    Raises:
        CannotRunError: The release is recorded already or can't name a folder, paths.toml can't be extended, or a
            recording does not replay.
    """
    folder = _prepare_folder(root, release)
    # In the corpus, so that moving it to its place at the end is one rename.
    with tempfile.TemporaryDirectory(prefix=".recording-", dir=root) as made:
        place = Path(made) / folder.name
        names: dict[str, str] = {}
        async with EnvironmentPool(kinds()["real"]) as pool:
            for path in paths:
                on_path(path)
                for name, recording in (await record_path(pool, path, release)).items():
                    write_recording(recording, place / f"{name}.json")
                names |= path.recordings()
        await prove(place)
        shutil.move(place, folder)
    add_to_paths(root, folder.name, names)
    return sorted(names)


def _prepare_folder(root: Path, release: str) -> Path:
    if not _RELEASE.fullmatch(release):
        raise CannotRunError(f"--release: {release!r} must be of letters, digits and . _ + - only: it names a folder")
    folder = root / release_folder(release)
    read_paths(root / PATHS_FILE)  # fails now rather than when the release is added to it
    if folder.exists():
        raise CannotRunError(
            f"{folder} exists. A release is recorded once: its recordings stand for the workflows that it started. "
            "Give another --release, or remove the folder if it was never released"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRunError(f"{root} can't be written: {error.strerror or error}") from None
    return folder


async def prove(place: Path) -> None:
    """Check that every recording in a folder replays with the same commands, values included.

    Raises:
        CannotRunError: One does not.
    """
    report = await check_histories(place, ReplayPool(TARGET))
    if not report.is_clean:
        broken = "; ".join(f"{each.recording}: {each.problem or each.drift}" for each in report.broken)
        raise CannotRunError(f"the new recordings do not replay, so nothing is kept: {broken}")


async def record_path(pool: EnvironmentPool, path: InvoicePath, release: str) -> dict[str, Recording]:
    """Play one path, and return its recordings by name."""
    faker = Faker("en_US", use_weighting=False)
    faker.seed_instance(path.name)
    async with open_world(pool, approval_timeout=path.approval_timeout, signals_approve=path.signals_approve) as world:
        await path.script(PathContext(world, path.name, faker))
        origin = {
            "release": release,
            "path": path.name,
            "about": path.about,
            "on": datetime.now(UTC).date().isoformat(),
            "server": await _server(world),
            "temporalio": version("temporalio"),
        }
        invoice = workflow_id_for(path.name.upper())
        wanted = {path.name: invoice} if path.records_invoice else {}
        wanted |= {f"{path.name}.line-{n}": line_workflow_id(invoice, n) for n in path.lines}
        return {name: await _recorded(world, workflow_id, origin) for name, workflow_id in wanted.items()}


async def _recorded(world: World, workflow_id: str, origin: dict[str, str]) -> Recording:
    handle = world.handle(workflow_id)
    recording = Recording.of(await handle.fetch_history(), **origin)
    return replace(recording, events=normalize(recording.events, {world.task_queue: TASK_QUEUE}))


async def _server(world: World) -> str:
    info = await world.client.workflow_service.get_system_info(GetSystemInfoRequest())
    return f"Temporal {info.server_version}"
