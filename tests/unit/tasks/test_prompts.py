"""When a client prompts for a task's input requests; without a client."""

from __future__ import annotations

from typing import Any

from mcp_temporal_tasks.client.prompts import PromptTracker
from tests.requirements import requirement

BACKOFF = 60.0
DISMISSED = {"action": "cancel"}


@requirement("TASK-CLIENT")
def test_each_request_is_prompted_once_in_order() -> None:
    prompts = PromptTracker(BACKOFF)
    assert prompts.due_prompts({"b": "B?", "a": "A?"}, 0) == ["b", "a"]
    assert prompts.due_prompts({"b": "B?", "a": "A?", "c": "C?"}, 1) == ["c"]


@requirement("TASK-CLIENT")
def test_the_backoff_after_a_dismissal_doubles() -> None:
    prompts, now = PromptTracker(BACKOFF), 0.0
    for number, backoff in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600)):
        key = f"question-{number}"
        assert prompts.due_prompts({key: "Pay?"}, now) == [key]
        prompts.record_answer("Pay?", DISMISSED, now)
        following = {f"question-{number + 1}": "Pay?"}
        assert prompts.due_prompts(following, now + backoff - 1) == []
        now += backoff


@requirement("TASK-CLIENT")
def test_another_question_is_prompted_immediately() -> None:
    prompts = PromptTracker(BACKOFF)
    prompts.due_prompts({"1": "Pay?"}, 0)
    prompts.record_answer("Pay?", DISMISSED, 0)
    assert prompts.due_prompts({"2": "Pay half of it?"}, 0) == ["2"]


@requirement("TASK-CLIENT")
def test_a_rejected_answer_is_prompted_three_times() -> None:
    prompts = PromptTracker(BACKOFF)
    for again in (True, True, False):
        assert prompts.due_prompts({"1": "When?"}, 0) == ["1"]
        assert prompts.allow_retry("1") is again
    assert prompts.due_prompts({"1": "When?"}, 0) == []


@requirement("TASK-CLIENT")
def test_a_repeated_question_with_a_prefix_is_the_same() -> None:
    def form(message: str, **schema: str) -> dict[str, Any]:
        return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}

    prompts = PromptTracker(BACKOFF)
    prompts.due_prompts({"1": form("Pay?")}, 0)
    prompts.record_answer(form("Pay?"), DISMISSED, 0)
    assert prompts.due_prompts({"2": form("You dismissed it. Pay?")}, 1) == []
    assert prompts.due_prompts({"3": form("Pay?", name="string")}, 1) == ["3"]
    assert prompts.due_prompts({"4": form("Pay? Or not?")}, 1) == ["4"]
    assert prompts.due_prompts({"5": form("")}, 1) == ["5"]
    assert prompts.due_prompts({"2": form("You dismissed it. Pay?")}, BACKOFF) == ["2"]
