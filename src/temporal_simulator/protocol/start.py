"""What a run begins with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Memo, Payload, Payloads, SearchAttributes
from temporalio.api.sdk.v1 import UserMetadata

from temporal_simulator.event_queue import SECOND

if TYPE_CHECKING:
    from temporal_simulator.server.children import Child

Doing = Callable[[], Awaitable[None] | None]
"""Does something; what it returns is awaited, if it is anything."""


@dataclass(eq=False)
class Start:
    """What a run begins with. Times in nanoseconds; 0 is none.

    Attributes:
        parent: Where another workflow waits for it.
    """

    workflow_id: str
    workflow_type: str
    task_queue: str
    input: Payloads = field(default_factory=Payloads)
    task_timeout: int = 10 * SECOND
    run_timeout: int = 0
    execution_timeout: int = 0
    memo: Memo = field(default_factory=Memo)
    search_attributes: SearchAttributes = field(default_factory=SearchAttributes)
    header: Mapping[str, Payload] = field(default_factory=dict)
    user_metadata: UserMetadata | None = None
    parent: Child | None = None
