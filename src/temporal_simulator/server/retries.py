"""Retry policies: the server's defaults, whether there is another attempt, and the backoff before it.

`temporal_replay` fills in the same defaults, on purpose: the two packages are independent of each other.
"""

from __future__ import annotations

from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import RetryState
from temporalio.api.failure.v1 import Failure

from temporal_simulator.event_queue import SECOND
from temporal_simulator.protocol.events import to_nanoseconds

# The maximum interval is a multiple of the initial one.
_INITIAL_INTERVAL, _COEFFICIENT, _MAXIMUM_FACTOR = SECOND, 2.0, 100

IN_PROGRESS, TIMEOUT = RetryState.RETRY_STATE_IN_PROGRESS, RetryState.RETRY_STATE_TIMEOUT


def with_defaults(given: RetryPolicy) -> RetryPolicy:
    """The complete policy: with the server's defaults for what is not given."""
    policy = RetryPolicy()
    policy.CopyFrom(given)
    if not to_nanoseconds(policy.initial_interval):
        policy.initial_interval.FromSeconds(_INITIAL_INTERVAL // SECOND)
    policy.backoff_coefficient = policy.backoff_coefficient or _COEFFICIENT
    if not to_nanoseconds(policy.maximum_interval):
        policy.maximum_interval.FromNanoseconds(to_nanoseconds(policy.initial_interval) * _MAXIMUM_FACTOR)
    return policy


def backoff(policy: RetryPolicy, attempt: int) -> int:
    """Nanoseconds between the failure of an attempt, counted from 1, and the next one, by a complete policy."""
    maximum = to_nanoseconds(policy.maximum_interval)
    try:
        interval = to_nanoseconds(policy.initial_interval) * policy.backoff_coefficient ** (attempt - 1)
    except OverflowError:
        return maximum
    return int(min(interval, maximum))


def next_retry(
    policy: RetryPolicy, attempt: int, failure: Failure, remaining: int | None
) -> tuple[RetryState.ValueType, int]:
    """Whether there is another attempt after one that failed, and the backoff before it in nanoseconds.

    Args:
        policy: Complete.
        attempt: The one that failed, counted from 1.
        remaining: Nanoseconds until the activity times out for good; None without a limit.
    """
    info = failure.application_failure_info
    if info.non_retryable or (info.type and info.type in policy.non_retryable_error_types):
        return RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE, 0
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, 0
    interval = to_nanoseconds(info.next_retry_delay) or backoff(policy, attempt)
    return (TIMEOUT, 0) if remaining is not None and interval >= remaining else (IN_PROGRESS, interval)
