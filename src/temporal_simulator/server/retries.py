"""Retry policies: what a server fills in, whether there is another attempt, and how long it waits before that."""

from __future__ import annotations

from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import RetryState
from temporalio.api.failure.v1 import Failure

from temporal_simulator.event_queue import SECOND
from temporal_simulator.protocol.events import nanoseconds

_FIRST_PAUSE, _COEFFICIENT, _LONGEST_PAUSE = SECOND, 2.0, 100

IN_PROGRESS, TOO_LATE = RetryState.RETRY_STATE_IN_PROGRESS, RetryState.RETRY_STATE_TIMEOUT


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


def next_attempt(
    policy: RetryPolicy, attempt: int, failure: Failure, left: int | None
) -> tuple[RetryState.ValueType, int]:
    """Whether there is another attempt after one that failed, and after how many nanoseconds.

    Args:
        policy: Says everything.
        attempt: Which one failed, counted from 1.
        left: How many nanoseconds there are for all that comes; None if as many as it takes.
    """
    told = failure.application_failure_info
    if told.non_retryable or (told.type and told.type in policy.non_retryable_error_types):
        return RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE, 0
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, 0
    pause = nanoseconds(told.next_retry_delay) or back_off(policy, attempt)
    return (TOO_LATE, 0) if left is not None and pause >= left else (IN_PROGRESS, pause)
