"""Supervisor of a Temporal dev server: runs it as long as a process uses it, and ends with it.

A separate program, standard library only: `python -I -S _guardian.py STATE_FD STATE_JSON MEMBERS_FILE COMMAND...`
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

_POLL = 0.1  # seconds between two checks whether a process still uses the server
_GRACE = 10.0  # seconds from SIGTERM to SIGKILL; the server itself takes about one
_PR_SET_PDEATHSIG = 1


def _kill_with_parent(guardian: int) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel kill the server when its guardian dies; None where that is not supported."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:  # killed before we were armed
            os._exit(1)

    return arm


def _has_no_members(members: int) -> bool:
    """Whether no process is a member. If so, none can become one until this process ends: it keeps the lock."""
    try:
        fcntl.flock(members, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Run COMMAND until no process uses it, SIGTERM arrives, or it ends.

    STATE_FD is the inherited, locked descriptor of the state file. This process and the server both keep it open, so
    the lock is released when both have ended. STATE_JSON is written to the file, with the guardian's pid.

    Returns:
        The server's exit status; -N when signal N ended it.
    """
    state, text, members_file, *command = arguments
    os.umask(0o077)  # whatever the server writes is for this user only
    state_fd, members = int(state), os.open(members_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    # Detach from the process that started this one: from its terminal, process group and process tree. It need not wait
    # for this process.
    if guardian := os.fork():
        content = json.dumps({**json.loads(text), "pid": guardian}).encode()
        os.pwrite(state_fd, content, 0)
        os.ftruncate(state_fd, len(content))
        return 0
    os.setsid()  # a process group of its own: the server can be killed by it if only the guardian was killed
    # preexec_fn is safe here: this process has one thread.
    server = subprocess.Popen(  # noqa: S603 (our starter's command)
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=(state_fd,),
        preexec_fn=_kill_with_parent(os.getpid()),  # noqa: PLW1509
    )
    while not (stopping or _has_no_members(members)):
        try:
            return server.wait(timeout=_POLL)
        except subprocess.TimeoutExpired:
            continue
    server.terminate()
    try:
        return server.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
