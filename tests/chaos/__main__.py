"""`python -m tests.chaos`: plants each defect, and reports in which episode a campaign catches it."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.planted import DEFECTS

_WITHIN = 3600.0


def main(names: list[str]) -> int:
    """Plant all, or those of these names; 0 if each is caught as it has to be."""
    missed = 0
    for defect in DEFECTS:
        if names and defect.name not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="planted-") as folder:
            defect.install(Path(folder))
            began = time.monotonic()
            reported = defect.campaign(Path(folder), _WITHIN)
        found = {kind for kind, times in reported["findings"].items() if times}
        caught = bool(found & set(defect.kinds))
        missed += not caught
        first = reported["failures"][0]["findings"][0] if reported["failures"] else {"kind": "", "got": "nothing"}
        print(  # noqa: T201 (a program)
            f"{defect.name}: {'caught' if caught else 'MISSED'} in episode {reported['episodes']} of {defect.runs},"
            f" {time.monotonic() - began:.0f} s, {', '.join(sorted(found))}: {first['got'][:200]}",
            flush=True,
        )
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
