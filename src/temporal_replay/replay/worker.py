"""`python -m temporal_replay.replay.worker`: a process that replays recordings for `ReplayPool`.

Takes a job and then recordings, one JSON text a line, on stdin; answers on what was stdout when it began, so that
workflow code may print what it likes. Ends when stdin does, whatever it is doing: it never outlives its parent.
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
    """What the process is to replay with.

    Attributes:
        module_path: Where the parent looks for modules.
    """

    workflows: str
    data_converter: str
    strict: bool
    module_path: list[str]


class Reply(BaseModel):
    """One line of what it says: that it is ready, that it can't run, what it begins with, or what came of it."""

    ready: bool = False
    cannot_run: str = ""
    started: str = ""
    outcome: Outcome | None = None


class _Parent:
    """The other end of stdin and stdout."""

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

    def send(self, answer: Reply) -> None:
        self._out.write(answer.model_dump_json(exclude_defaults=True) + "\n")
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
    """The outcome of a file that is no recording."""
    advice = "Restore the file from version control; a recording is never edited by hand"
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
    """Do what the parent says, and leave without waiting for threads of Temporal's SDK that may never end."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # What code under test logs is no news here: what came of it is told.
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(_Parent(out)))
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
