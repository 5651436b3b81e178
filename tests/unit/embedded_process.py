"""A process that uses the embedded Temporal until its stdin ends: `python embedded_process.py HOME REPORT_FILE`.

REPORT_FILE always holds how things stand, as JSON: `{"address": "127.0.0.1:7233", "is_owner": true}`.
"""

import asyncio
import json
import sys
from pathlib import Path

from invoice_mcp.temporal.embedded import EmbeddedTemporal


async def main(home: Path, report_file: Path) -> None:
    async with EmbeddedTemporal(home) as embedded:
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not end.done():
            draft = report_file.with_suffix(".draft")
            draft.write_text(json.dumps({"address": embedded.endpoint.address, "is_owner": embedded.is_owner}))
            draft.replace(report_file)
            await asyncio.wait([end], timeout=0.05)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
