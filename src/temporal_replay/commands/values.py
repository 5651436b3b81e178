"""What commands and events carry, as plain values that can be compared and shown. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.enums.v1 import ApplicationErrorCategory
from temporalio.api.failure.v1 import Failure

_PYDANTIC_LINK = re.compile(r"\n\s*For further information visit https://errors\.pydantic\.dev/\S+")

Plain = Any
"""None, bool, int, float, str, a list of plain values, or a dict from str to plain values."""

ABSENT = "(none)"
"""How a value that one side does not have is shown."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
_CANCEL_PREFIX = re.compile(r"^Cancel requested by workflow with run id \S+ with reason: ")
# What the server fills in where a retry policy leaves something out.
_DEFAULT_INTERVAL = timedelta(seconds=1)
_DEFAULT_COEFFICIENT = 2.0
_DEFAULT_MAXIMUM = 100


def to_timedelta(duration: Duration) -> timedelta:
    """A duration as it is in a message; nothing is zero."""
    return duration.ToTimedelta()


def format_duration(value: timedelta) -> str:
    """A span of time for people: 5d, 1h30m, 2.5s; 0s for none."""
    rest, text = abs(value.total_seconds()), "-" if value < timedelta(0) else ""
    for seconds, unit in _UNITS:
        whole, rest = divmod(rest, seconds)
        text += f"{whole:.0f}{unit}" if whole else ""
    return text + (f"{rest:.6f}".rstrip("0").rstrip(".") + "s" if rest or text in {"", "-"} else "")


def payload(value: Payload) -> Plain:
    """What a payload holds: JSON as such, anything else by its encoding and its bytes."""
    encoding = value.metadata.get("encoding", b"").decode(errors="replace")
    if encoding == "binary/null":
        return None
    if encoding.startswith("json/"):
        try:
            return json.loads(value.data)
        except ValueError:
            pass  # not what it says it is: compare the bytes
    return {"encoding": encoding, "data": base64.b64encode(value.data).decode()}


def payloads(values: Sequence[Payload]) -> Plain:
    """What a list of payloads holds."""
    return [payload(value) for value in values]


def named_payloads(values: Mapping[str, Payload]) -> Plain:
    """What named payloads hold: a memo, search attributes."""
    return {name: payload(values[name]) for name in sorted(values)}


def retry_policy(policy: RetryPolicy) -> Plain:
    """A retry policy, with what the server fills in."""
    initial = to_timedelta(policy.initial_interval) or _DEFAULT_INTERVAL
    return {
        "initial_interval": format_duration(initial),
        "backoff_coefficient": policy.backoff_coefficient or _DEFAULT_COEFFICIENT,
        "maximum_interval": format_duration(to_timedelta(policy.maximum_interval) or initial * _DEFAULT_MAXIMUM),
        "maximum_attempts": policy.maximum_attempts,
        "non_retryable_error_types": sorted(policy.non_retryable_error_types),
    }


def failure(value: Failure) -> Plain:
    """A failure without its stack traces: they change with every line of code that moves."""
    # pydantic's messages link to the documentation of its own version: an upgrade of it is no change of the code.
    plain: dict[str, Plain] = {"message": _PYDANTIC_LINK.sub("", _message(value))}
    if value.HasField("application_failure_info"):
        info = value.application_failure_info
        plain |= {
            "type": info.type,
            "non_retryable": info.non_retryable,
            "details": payloads(info.details.payloads),
            "next_retry_delay": format_duration(to_timedelta(info.next_retry_delay)),
            "category": _category(info.category),
        }
    elif kind := value.WhichOneof("failure_info"):
        plain["kind"] = kind.removesuffix("_failure_info").removesuffix("_info")
    if value.HasField("cause"):
        plain["cause"] = failure(value.cause)
    return plain


def _category(number: int) -> str:
    """By name; one that only a later SDK knows by its number."""
    names: dict[int, str] = {value: name.rpartition("CATEGORY_")[2] for name, value in ApplicationErrorCategory.items()}
    return names.get(number, str(number))


def _message(value: Failure) -> str:
    """The message, also where a converter of failures keeps it with the stack trace in a payload."""
    held = payload(value.encoded_attributes) if value.HasField("encoded_attributes") else None
    return str(held["message"]) if isinstance(held, dict) and "message" in held else value.message


def cancel_reason(reason: str) -> str:
    """Why a workflow asks another one to stop, without what the SDK's core puts before it."""
    return _CANCEL_PREFIX.sub("", reason)


def differences(old: Plain, new: Plain, at: str = "") -> Iterator[tuple[str, str, str]]:
    """Where two plain values differ, each place once: where, old and new as text.

    Lists of different lengths differ element by element too, so that a line added tells which.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{at}.{key}" if at else str(key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one, other = (each[index] if index < len(each) else ABSENT for each in (old, new))
            yield from differences(one, other, f"{at}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield at, text(old), text(new)


def text(value: Plain) -> str:
    """A plain value for people: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
