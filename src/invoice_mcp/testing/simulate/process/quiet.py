"""Suppresses logging while a simulation runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def suppress_logging() -> Iterator[None]:
    """Disable logging, errors included: scenarios cause them on purpose, and failures are reported at the end."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
