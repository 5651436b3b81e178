"""Defects that a campaign has to catch: each is an edit of a copy of the packages, run from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import invoice_mcp

SOURCES = Path(invoice_mcp.__file__).parents[1]
PACKAGES = ("invoice_mcp", "mcp_temporal_tasks", "temporal_replay", "temporal_simulator")


@dataclass(frozen=True)
class Defect:
    """An edit that breaks a promise.

    Attributes:
        edits: File below `src/` -> (text, what stands in its place); each text is there once.
        kinds: Kinds of findings of which one has to come.
        seed: Of the first episode.
        runs: Within how many episodes it has to be caught.
        schedule: Written by hand, where seeds take long to hit it; "" for seeds.
    """

    name: str
    edits: Mapping[str, tuple[tuple[str, str], ...]]
    kinds: tuple[str, ...]
    seed: int = 0
    runs: int = 10
    schedule: str = field(default="", repr=False)

    def install(self, folder: Path) -> None:
        """Put the packages, with this edit, into a folder from which Python can import them."""
        ignored = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(SOURCES / package, folder / package, ignore=ignored)
        for file, edits in self.edits.items():
            path = folder / file
            text = path.read_text(encoding="utf-8")
            for old, new in edits:
                if text.count(old) != 1:
                    raise ValueError(f"{self.name}: {file} has {text.count(old)} times {old!r}")
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")

    def campaign(self, folder: Path, within: float, *arguments: str) -> dict[str, Any]:
        """Run a campaign on the copy in a folder; what it reports as JSON. It ends with the first failure."""
        command = [sys.executable, "-m", "invoice_mcp", "chaos", "--json", *arguments]
        if self.schedule:
            file = folder / "schedule.txt"
            file.write_text(self.schedule, encoding="utf-8")
            command += ["--schedule", str(file), "--runs", str(self.runs)]
        else:
            command += ["--seed", str(self.seed), "--runs", str(self.runs)]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=within, check=False, cwd=folder
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"chaos ended with {done.returncode}: {done.stderr[-2000:]}")
        reported: dict[str, Any] = json.loads(done.stdout)
        return reported


_PAY = "            receipt = await self._payments.pay(order)\n"
_PAY_BY_RUN = (
    "            key = f'{order.idempotency_key}-{activity.info().workflow_run_id}'\n"
    "            order = order.model_copy(update={'idempotency_key': key})\n" + _PAY
)
_PAY_LATER = (
    "            import asyncio\n"
    "            asyncio.get_running_loop().create_task(self._payments.pay(order))\n"
    "            receipt = PaymentReceipt(payment_id=f'P-{order.idempotency_key[:20]}')\n"
)
_ACTIVITIES = "invoice_mcp/workflow/activities.py"

_HEAD = """\
chaos 1
seed 1
temporal {temporal}
home folder
clock real
window 30
workers {workers}
erp rate=0 kinds=
gateway rate={rate} kinds=slow
"""
_ONE_SERVER = """\
server transport=http stderr_full=no
client server=0 legacy=no forms=no tasks=no
client server=0 legacy=no forms=no tasks=no
"""
_TWO_HOSTS = """\
server transport=stdio stderr_full=no
server transport=stdio stderr_full=no
client server=0 legacy=no forms=no tasks=no
client server=1 legacy=no forms=no tasks=no
"""
_EMBEDDED = _HEAD.format(temporal="embedded", workers=0, rate=0) + _TWO_HOSTS


def _submitted(invoice: int, lines: str, *moments: float) -> list[str]:
    """Submit and approve an invoice, at each moment."""
    steps = []
    for at in moments:
        steps.append(f"step {at:g}s client-0 submit invoice={invoice} lines={lines}")
        steps.append(f"step {at + 0.2:g}s client-0 approve invoice={invoice}")
    return steps


def _lost_each_time() -> str:
    """A payment is made, and its every answer lost; then it is submitted again."""
    steps = _submitted(1, "past", 0, 8, 12, 16)
    return _EMBEDDED + "\n".join(["line invoice=1 line=1 times=3 kind=lose-after", *steps]) + "\n"


def _guardian_killed() -> str:
    """The guardian of a server that is used is killed."""
    steps = [*_submitted(1, "past,3,4", 0), "step 1s fault kill process=guardian", "step 4s client-1 list"]
    return _EMBEDDED + "\n".join(steps) + "\n"


def _query_and_cancel(invoices: int = 14) -> str:
    """Cancelled one after another: of some, the task waits for the worker that was killed when another one comes.

    For two seconds, that is, in which that one takes the query first. When it comes is the machine's.
    """
    steps, due = ["step 5s fault kill process=workers restart=1"], 7.0
    for number in range(1, invoices + 1):
        steps += [
            f"step 0s client-0 submit invoice={number} lines={due:g},{due + 20:g}",
            f"step 0.5s client-0 approve invoice={number}",
            f"step {due + number:g}s client-0 cancel invoice={number} waits=no",
            *(f"step {due + after:g}s client-1 status invoice={number} wait=0 waits=no" for after in range(0, 16, 2)),
        ]
    head = _HEAD.format(temporal="external", workers=1, rate=1) + _ONE_SERVER
    return head + "\n".join(steps) + "\n"


DEFECTS = (
    Defect(
        "query-and-cancel",
        {
            "invoice_mcp/workflow/invoice_workflow.py": (
                (
                    "            if workflow.patched(STOPS_LINES_IN_ORDER):\n                await self._stop",
                    "            if self._fault is not None:\n                await self._stop",
                ),
            )
        },
        ("unreplayable", "stuck", "untrue"),
        runs=6,
        schedule=_query_and_cancel(),
    ),
    Defect(
        "wal-off",
        {
            "invoice_mcp/temporal/embedded.py": (
                ('("journal_mode=wal", "synchronous=full")', '("journal_mode=delete", "synchronous=full")'),
            )
        },
        ("damaged",),
    ),
    Defect(
        "key-with-run-id",
        {
            _ACTIVITIES: (
                (
                    _PAY,
                    _PAY_BY_RUN,
                ),
            )
        },
        ("double-paid",),
        schedule=_lost_each_time(),
    ),
    Defect(
        "two-servers-one-file",
        {
            "invoice_mcp/temporal/_guardian.py": (
                (
                    "        pass_fds=(state_fd,),\n        preexec_fn=_kill_with_parent(os.getpid()),",
                    "        preexec_fn=None,",
                ),
            ),
            "invoice_mcp/temporal/embedded.py": (
                ("if self._endpoint and self._endpoint.address != endpoint.address:", "if False:"),
            ),
        },
        ("two-servers", "left-behind"),
        schedule=_guardian_killed(),
    ),
    Defect(
        "acknowledges-before-it-pays",
        {
            _ACTIVITIES: (
                (
                    _PAY,
                    _PAY_LATER,
                ),
            )
        },
        ("untrue",),
    ),
)
"""What a campaign has to catch."""
