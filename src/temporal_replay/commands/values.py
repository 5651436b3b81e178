"""The values in commands and events as plain values, which can be compared and displayed. Pure."""

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
"""Displayed in place of a value that one side does not have."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
_CANCEL_PREFIX = re.compile(r"^Cancel requested by workflow with run id \S+ with reason: ")
# Server defaults of a retry policy.
_DEFAULT_INTERVAL = timedelta(seconds=1)
_DEFAULT_COEFFICIENT = 2.0
_DEFAULT_MAXIMUM = 100


def to_timedelta(duration: Duration) -> timedelta:
    """Convert a protobuf duration; an unset one is zero."""
    return duration.ToTimedelta()


def format_duration(value: timedelta) -> str:
    """Format a duration for display: 5d, 1h30m, 2.5s; 0s for zero."""
    rest, text = abs(value.total_seconds()), "-" if value < timedelta(0) else ""
    for seconds, unit in _UNITS:
        whole, rest = divmod(rest, seconds)
        text += f"{whole:.0f}{unit}" if whole else ""
    return text + (f"{rest:.6f}".rstrip("0").rstrip(".") + "s" if rest or text in {"", "-"} else "")


def payload(value: Payload) -> Plain:
    """The plain value of a payload: parsed JSON, otherwise encoding and bytes."""
    encoding = value.metadata.get("encoding", b"").decode(errors="replace")
    if encoding == "binary/null":
        return None
    if encoding.startswith("json/"):
        try:
            return json.loads(value.data)
        except ValueError:
            pass  # the payload is not the JSON it claims to be: compare the bytes
    return {"encoding": encoding, "data": base64.b64encode(value.data).decode()}


def payloads(values: Sequence[Payload]) -> Plain:
    """The plain value of a list of payloads."""
    return [payload(value) for value in values]


def named_payloads(values: Mapping[str, Payload]) -> Plain:
    """The plain value of a payload map, such as a memo or search attributes."""
    return {name: payload(values[name]) for name in sorted(values)}


def retry_policy(policy: RetryPolicy) -> Plain:
    """The plain value of a retry policy, with the server's defaults filled in.

    The simulator fills in the same defaults, in a module of its own. That is intended: both packages can be used alone.
    """
    initial = to_timedelta(policy.initial_interval) or _DEFAULT_INTERVAL
    return {
        "initial_interval": format_duration(initial),
        "backoff_coefficient": policy.backoff_coefficient or _DEFAULT_COEFFICIENT,
        "maximum_interval": format_duration(to_timedelta(policy.maximum_interval) or initial * _DEFAULT_MAXIMUM),
        "maximum_attempts": policy.maximum_attempts,
        "non_retryable_error_types": sorted(policy.non_retryable_error_types),
    }


def failure(value: Failure) -> Plain:
    """The plain value of a failure, without stack traces: these change whenever a line of code moves."""
    # Messages of pydantic link to the documentation of its version. An upgrade of pydantic is not a change of the code.
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
    """Name of an error category; the number if this version of the SDK does not know it."""
    names: dict[int, str] = {value: name.rpartition("CATEGORY_")[2] for name, value in ApplicationErrorCategory.items()}
    return names.get(number, str(number))


def _message(value: Failure) -> str:
    """The message of a failure, also if a failure converter has moved it into an encoded payload."""
    held = payload(value.encoded_attributes) if value.HasField("encoded_attributes") else None
    return str(held["message"]) if isinstance(held, dict) and "message" in held else value.message


def cancel_reason(reason: str) -> str:
    """The reason for a cancellation, without the prefix that the SDK core adds."""
    return _CANCEL_PREFIX.sub("", reason)


def differences(old: Plain, new: Plain, at: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield path, old text and new text of each place where two plain values differ.

    Lists of different lengths are compared element by element, so that the path shows which element was added.
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
    """Render a plain value for display: strings unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
