"""Retry policies: what a server fills in, and how long it waits before the next attempt."""

from __future__ import annotations

from temporalio.api.common.v1 import RetryPolicy

from invoice_mcp.testing.simulator._agenda import SECOND
from invoice_mcp.testing.simulator._history import nanoseconds

_FIRST_PAUSE, _COEFFICIENT, _LONGEST_PAUSE = SECOND, 2.0, 100


def filled(given: RetryPolicy) -> RetryPolicy:
    """A policy that says everything."""
    policy = RetryPolicy()
    policy.CopyFrom(given)
    if not nanoseconds(policy.initial_interval):
        policy.initial_interval.FromSeconds(_FIRST_PAUSE // SECOND)
    policy.backoff_coefficient = policy.backoff_coefficient or _COEFFICIENT
    if not nanoseconds(policy.maximum_interval):
        policy.maximum_interval.FromNanoseconds(nanoseconds(policy.initial_interval) * _LONGEST_PAUSE)
    return policy


def back_off(policy: RetryPolicy, attempt: int) -> int:
    """Nanoseconds from the failure of an attempt, counted from 1, to the next one; the policy says everything."""
    longest = nanoseconds(policy.maximum_interval)
    try:
        pause = nanoseconds(policy.initial_interval) * policy.backoff_coefficient ** (attempt - 1)
    except OverflowError:
        return longest
    return int(min(pause, longest))
