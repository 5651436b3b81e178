"""`python -m temporal_replay.replay.worker`: a process that replays recordings for `ReplayPool`.

Reads a job and then recordings from stdin, one JSON text a line. Writes replies to the original stdout, so that
workflow code may print. Exits when stdin is closed, whatever it is doing: it never outlives its parent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel

from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.recording import Recording, RecordingError, read_recording
from temporal_replay.replay.replayer import InProcessReplayer
from temporal_replay.replay.target import CannotRunError, Target


class Job(BaseModel):
    """What to replay with.

    Attributes:
        module_path: The parent's `sys.path`.
    """

    workflows: str
    data_converter: str
    strict: bool
    module_path: list[str]


class Reply(BaseModel):
    """One reply: ready, can't run, recording started, or outcome of a recording."""

    ready: bool = False
    cannot_run: str = ""
    started: str = ""
    outcome: Outcome | None = None


class _Parent:
    """The parent process, at the other end of stdin and stdout."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read_stdin, daemon=True).start()

    def _read_stdin(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        os._exit(0)

    async def receive(self) -> str:
        return await asyncio.to_thread(self._lines.get)

    def send(self, reply: Reply) -> None:
        self._out.write(reply.model_dump_json(exclude_defaults=True) + "\n")
        self._out.flush()


async def _recordings(parent: _Parent) -> AsyncIterator[tuple[str, Recording]]:
    while line := (await parent.receive()).strip():
        name, path = json.loads(line)
        parent.send(Reply(started=name))
        try:
            recording = read_recording(Path(path))
        except RecordingError as error:
            parent.send(Reply(outcome=unreadable_outcome(name, error)))
            continue
        yield name, recording


def unreadable_outcome(name: str, error: RecordingError) -> Outcome:
    """The outcome of a file that is not a recording."""
    advice = "Restore the file from version control. Never edit a recording by hand"
    return Outcome(recording=name, problem=Problem(fault=Fault.UNREADABLE, message=str(error), advice=advice))


async def _serve(parent: _Parent) -> None:
    job = Job.model_validate_json(await parent.receive())
    sys.path[:] = job.module_path
    try:
        target = Target(job.workflows, job.data_converter).load()
        parent.send(Reply(ready=True))
        await InProcessReplayer(target, strict=job.strict).replay(
            _recordings(parent), lambda outcome: parent.send(Reply(outcome=outcome))
        )
    except CannotRunError as error:
        parent.send(Reply(cannot_run=str(error)))


def main() -> None:
    """Serve the parent, then exit without waiting for SDK threads, which may never end."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Logs of the code under test are not part of the result.
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(_Parent(out)))
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
