"""The command `chaos`: one small episode on real processes, and what the command says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.host import run
from tests.requirements import requirement

# One server, one client, one invoice; the server is killed just as the payment is made and not yet answered.
SMALL = """\
chaos 1
seed 1
temporal embedded
home folder
window 20
workers 0
server transport=stdio stderr_full=no
client server=0 legacy=no forms=no tasks=no
erp rate=0 kinds=
gateway rate=0 kinds=
line invoice=1 line=1 times=1 kind=lose-after
step 0s client-0 submit invoice=1 lines=past,past
step 0s client-0 approve invoice=1
step paid#2 fault kill process=serve-0 restart=0
"""


@requirement("CHAOS-EPISODE", "CHAOS-REPORT")
def test_a_server_is_killed_between_a_payment_and_its_record_and_all_is_well(tmp_path: Path) -> None:
    file, keep = tmp_path / "schedule.txt", tmp_path / "kept"
    file.write_text(SMALL.replace("step 0s client-0 approve", "step 0.1s client-0 approve"), encoding="utf-8")
    done = run(tmp_path / "home", "chaos", "--schedule", str(file), "--keep", str(keep), "--json", within=120)
    assert done.returncode == 0, done.stdout + done.stderr
    reported = json.loads(done.stdout)
    assert reported["invoices"] == {"PAID": 1}
    assert reported["payments"] == 2
    assert reported["faults"] == {"pay lose-after": 1, "kill": 1}
    assert not any(reported["findings"].values())
    [episode] = keep.iterdir()
    assert (episode / "schedule.txt").read_text(encoding="utf-8").startswith("chaos 1\nseed 1\n")
    assert "kills serve-0" in (episode / "journal.jsonl").read_text(encoding="utf-8")


@requirement("CHAOS-SCHEDULE")
def test_what_it_prints_is_a_schedule_and_what_is_none_is_refused(tmp_path: Path) -> None:
    printed = run(tmp_path, "chaos", "--seed", "7", "--print")
    assert printed.stdout.startswith("chaos 1\nseed 7\n")
    file = tmp_path / "schedule.txt"
    file.write_text("chaos 1\nseed 7\ndoor open\n", encoding="utf-8")
    refused = run(tmp_path, "chaos", "--schedule", str(file))
    assert refused.returncode == 2
    assert "line 3: 'door' is none of" in refused.stderr
