"""When a client asks a task's questions, without any client."""

from __future__ import annotations

from typing import Any

from mcp_temporal_tasks.client.prompts import Questions
from tests.requirements import requirement

PEACE = 60.0
DISMISSED = {"action": "cancel"}


@requirement("TASK-CLIENT")
def test_each_is_asked_once_in_the_order_of_the_task() -> None:
    questions = Questions(PEACE)
    assert questions.to_ask({"b": "B?", "a": "A?"}, 0) == ["b", "a"]
    assert questions.to_ask({"b": "B?", "a": "A?", "c": "C?"}, 1) == ["c"]


@requirement("TASK-CLIENT")
def test_what_was_dismissed_is_left_in_peace_for_longer_each_time() -> None:
    questions, now = Questions(PEACE), 0.0
    for number, peace in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600)):
        key = f"question-{number}"
        assert questions.to_ask({key: "Pay?"}, now) == [key]
        questions.is_answered("Pay?", DISMISSED, now)
        following = {f"question-{number + 1}": "Pay?"}
        assert questions.to_ask(following, now + peace - 1) == []
        now += peace


@requirement("TASK-CLIENT")
def test_another_question_is_asked_at_once() -> None:
    questions = Questions(PEACE)
    questions.to_ask({"1": "Pay?"}, 0)
    questions.is_answered("Pay?", DISMISSED, 0)
    assert questions.to_ask({"2": "Pay half of it?"}, 0) == ["2"]


@requirement("TASK-CLIENT")
def test_an_answer_that_can_not_be_taken_is_asked_for_three_times() -> None:
    questions = Questions(PEACE)
    for again in (True, True, False):
        assert questions.to_ask({"1": "When?"}, 0) == ["1"]
        assert questions.may_ask_again("1") is again
    assert questions.to_ask({"1": "When?"}, 0) == []


@requirement("TASK-CLIENT")
def test_what_is_asked_again_with_a_word_before_is_the_same() -> None:
    def form(message: str, **schema: str) -> dict[str, Any]:
        return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}

    questions = Questions(PEACE)
    questions.to_ask({"1": form("Pay?")}, 0)
    questions.is_answered(form("Pay?"), DISMISSED, 0)
    assert questions.to_ask({"2": form("You dismissed it. Pay?")}, 1) == []
    assert questions.to_ask({"3": form("Pay?", name="string")}, 1) == ["3"]
    assert questions.to_ask({"4": form("Pay? Or not?")}, 1) == ["4"]
    assert questions.to_ask({"5": form("")}, 1) == ["5"]
    assert questions.to_ask({"2": form("You dismissed it. Pay?")}, PEACE) == ["2"]
