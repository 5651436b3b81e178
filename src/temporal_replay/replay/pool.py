"""Replays recordings in several processes, each replay with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.replay.target import CannotRunError, Target
from temporal_replay.replay.worker import Job, Reply

TIME_LIMIT = 30.0
"""Default time limit for one replay, in seconds. A replay usually takes milliseconds."""

_STARTUP_TIMEOUT = 120.0  # seconds, including imports of the code under test
_EXIT_TIMEOUT = 5.0  # seconds
_MAX_LINE_BYTES = 64 * 1024 * 1024
_STDERR_TAIL = 2000  # characters


@dataclass(frozen=True)
class ReplayPool:
    """Replays recordings in worker processes.

    Attributes:
        target: The code to replay with.
        strict: Whether to compare every value of every command.
        time_limit: Seconds for one recording.
        processes: Number of worker processes; 0 means one per core.

    Example:
        pool = ReplayPool(Target("my_app.worker:WORKFLOWS"), processes=4)
        report = await check_histories(Path("histories"), pool)
    """

    target: Target
    strict: bool = True
    time_limit: float = TIME_LIMIT
    processes: int = 0

    async def replay(
        self, files: Mapping[str, Path], on_outcome: Callable[[Outcome], None] = lambda _: None
    ) -> list[Outcome]:
        """Replay files, and return their outcomes sorted by name.

        Args:
            files: Recordings, by name.
            on_outcome: Called with each outcome as it arrives.

        Raises:
            CannotRunError: The code can't be imported.
        """
        found: list[Outcome] = []

        def add(outcome: Outcome) -> None:
            found.append(outcome)
            on_outcome(outcome)

        shares = _partition(files, self.processes or cores())
        try:
            async with asyncio.TaskGroup() as group:
                for number, share in enumerate(shares, 1):
                    group.create_task(self._replay_share(number, share, add))
        except* CannotRunError as several:
            raise several.exceptions[0] from None
        return sorted(found, key=lambda outcome: outcome.recording)

    async def _replay_share(self, number: int, share: dict[str, Path], add: Callable[[Outcome], None]) -> None:
        """Replay a share in one process. A replay that ends or blocks its process is followed by a new process."""
        while share:
            async with _start_worker(number, self._job(), share) as process:
                while share and not process.is_lost:
                    name = next(iter(share))
                    add(await process.outcome(name, self.time_limit))
                    del share[name]

    def _job(self) -> Job:
        return Job(
            workflows=self.target.workflows,
            data_converter=self.target.data_converter,
            strict=self.strict,
            module_path=[path or str(Path.cwd()) for path in sys.path],
        )


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _partition(files: Mapping[str, Path], processes: int) -> list[dict[str, Path]]:
    """Divide files into shares of about equal size, deterministically: largest first, to the smallest share."""
    shares: list[dict[str, Path]] = [{} for _ in range(min(processes, len(files)))]
    weights = [0] * len(shares)
    for name, path in sorted(files.items(), key=lambda item: (-_size(item[1]), item[0])):
        least = weights.index(min(weights))
        shares[least][name] = path
        weights[least] += _size(path)
    return shares


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


class _WorkerProcess:
    """A worker process and the pipes to it.

    Attributes:
        is_lost: Whether the process has ended, or has to be killed.
    """

    def __init__(self, process: asyncio.subprocess.Process, stderr: IO[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 (both are pipes)
        self._stdin, self._stdout = process.stdin, process.stdout
        self._stderr = stderr
        self.is_lost = False

    def send(self, line: str) -> None:
        self._stdin.write(f"{line}\n".encode())

    async def receive(self, within: float) -> Reply | None:
        """Receive the next reply; None if the process has ended.

        Raises:
            TimeoutError: No reply arrived in time.
        """
        line = await asyncio.wait_for(self._stdout.readline(), within)
        return Reply.model_validate_json(line) if line.endswith(b"\n") else None

    async def outcome(self, name: str, within: float) -> Outcome:
        """Wait for the outcome of the current recording."""
        try:
            while (reply := await self.receive(within)) is not None:
                if reply.outcome is not None:
                    return reply.outcome
        except TimeoutError:
            message = f"its replay did not end within {within:g} s"
            advice = "The code blocks outside of Temporal, or never yields control. Raise --time-limit if it is slow"
            problem = Problem(fault=Fault.TIMED_OUT, message=message, advice=advice)
        else:
            message = "the replay process ended"
            advice = "The code, or a module it imports, exits or crashes the process"
            problem = Problem(fault=Fault.CRASHED, message=message, detail=self.stderr_tail(), advice=advice)
        self.is_lost = True
        return Outcome(recording=name, problem=problem)

    def stderr_tail(self) -> str:
        """The end of the process's stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()[-_STDERR_TAIL:]


@asynccontextmanager
async def _start_worker(number: int, job: Job, share: Mapping[str, Path]) -> AsyncIterator[_WorkerProcess]:
    """Start a process that replays a share, and kill it at the end."""
    # Each process has a hash seed of its own, the same on every run: code that depends on the order of a set fails,
    # and fails reproducibly.
    environment = {**os.environ, "PYTHONHASHSEED": str(number)}
    with tempfile.TemporaryFile() as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "temporal_replay.replay.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=_MAX_LINE_BYTES,
            env=environment,
            start_new_session=True,  # this process handles Ctrl-C
        )
        try:
            worker = _WorkerProcess(process, stderr)
            for line in (job.model_dump_json(), *(json.dumps([name, str(path)]) for name, path in share.items()), ""):
                worker.send(line)
            try:
                reply = await worker.receive(_STARTUP_TIMEOUT)
            except TimeoutError:
                raise CannotRunError(f"the code can't be imported within {_STARTUP_TIMEOUT:g} s") from None
            if reply is None or reply.cannot_run:
                raise CannotRunError(
                    reply.cannot_run if reply else f"the code can't be imported: {worker.stderr_tail()}"
                )
            yield worker
            if not worker.is_lost:
                # The share is done: the process ends by itself.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _EXIT_TIMEOUT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
