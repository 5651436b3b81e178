"""Schedules: from seeds, and as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from invoice_mcp.testing.chaos.clients import an_invoice
from invoice_mcp.testing.chaos.faults import KINDS
from invoice_mcp.testing.chaos.gateway import ERP_FAULTS, GATEWAY_FAULTS
from invoice_mcp.testing.chaos.generator import CLOCK_FAULT, STORAGE_FAULTS, Options, generate_schedule
from invoice_mcp.testing.chaos.schedule import ClockKind, Home, Schedule, ScheduleError, Step, Temporal, Transport, When
from tests.requirements import requirement
from tests.tool_client import PAST_DUE

SEEDS = range(150)


@requirement("CHAOS-SCHEDULE")
@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1.5s", When(1.5)),
        ("0s", When()),
        ("paid#3", When(0, "paid", 3)),
        ("pay-answered#12+0.02s", When(0.02, "pay-answered", 12)),
    ],
)
def test_a_moment_is_read_as_it_is_printed(text: str, when: When) -> None:
    assert When.parse(text) == when
    assert str(when) == text


@requirement("CHAOS-SCHEDULE")
@pytest.mark.parametrize("text", ["", "soon", "1.5", "paid#0", "paid#", "#3", "-1s"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError, match="write it like"):
        When.parse(text)


@requirement("CHAOS-SCHEDULE")
@pytest.mark.parametrize("can_mount", [True, False])
def test_every_schedule_is_read_as_it_is_printed_and_comes_again_from_its_seed(can_mount: bool) -> None:
    for seed in SEEDS:
        schedule = generate_schedule(seed, Options(can_mount, can_mount))
        assert Schedule.parse(str(schedule)) == schedule
        assert generate_schedule(seed, Options(can_mount, can_mount)) == schedule


@requirement("CHAOS-SCHEDULE")
def test_other_seeds_give_other_schedules_and_together_everything_there_is() -> None:
    schedules = [generate_schedule(seed, Options(can_mount=True, can_fake_clock=True)) for seed in SEEDS]
    assert len(set(map(str, schedules))) == len(SEEDS)
    assert {each.temporal for each in schedules} == set(Temporal)
    assert {each.home for each in schedules} == set(Home)
    assert {server.transport for each in schedules for server in each.servers} == set(Transport)
    assert {step.verb for each in schedules for step in each.steps if step.actor == "fault"} == set(KINDS)
    assert {kind for each in schedules for kind in each.gateway.kinds} == set(GATEWAY_FAULTS)
    assert {kind for each in schedules for kind in each.erp.kinds} == set(ERP_FAULTS)
    assert any(client.legacy for each in schedules for client in each.clients)
    assert any(client.tasks for each in schedules for client in each.clients)
    assert any(step.when.event for each in schedules for step in each.steps)


@requirement("CHAOS-SCHEDULE")
def test_faults_and_actions_name_what_there_is() -> None:
    for seed in SEEDS:
        schedule = generate_schedule(seed, Options(can_mount=True, can_fake_clock=True))
        names = {f"serve-{n}" for n in range(len(schedule.servers))}
        names |= {f"worker-{n}" for n in range(schedule.workers)} | {"workers", "temporal"}
        names |= {"guardian"} if schedule.temporal is Temporal.EMBEDDED else set()
        for step in schedule.steps:
            if step.actor == "fault":
                assert set(step.details.get("process", "temporal").split(",")) <= names
            else:
                assert int(step.actor.removeprefix("client-")) < len(schedule.clients)
        stdio = [n for n, server in enumerate(schedule.servers) if server.transport is Transport.STDIO]
        assert all([client.server for client in schedule.clients].count(n) == 1 for n in stdio)


@requirement("CHAOS-SCHEDULE")
def test_without_mounts_and_fake_clocks_a_seed_gives_the_same_but_for_these() -> None:
    for seed in SEEDS:
        mounting, plain = (generate_schedule(seed, Options(can, can)) for can in (True, False))
        assert (plain.home, plain.clock) == (Home.FOLDER, ClockKind.REAL)
        special = {*STORAGE_FAULTS, CLOCK_FAULT}
        assert plain.steps == tuple(step for step in mounting.steps if step.verb not in special)
        assert (plain.servers, plain.clients, plain.lines) == (mounting.servers, mounting.clients, mounting.lines)


@requirement("CHAOS-SCHEDULE")
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("", "begins with the line 'chaos 1'"),
        ("chaos 2\nseed 1", "begins with the line 'chaos 1'"),
        ("chaos 1\nseed 1\ndoor open", "line 3: 'door' is none of seed"),
        ("chaos 1\nseed 1", "it can't be read"),
        (f"{generate_schedule(1)}step 1s", "must read WHEN ACTOR VERB"),
        (f"{generate_schedule(1)}step 1s fault kill process", "must read name=value"),
        (f"{generate_schedule(1)}server transport=pigeon stderr_full=no", "pigeon"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_line(wrong: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        Schedule.parse(wrong)


@requirement("CHAOS-SCHEDULE")
def test_comments_and_empty_lines_are_left_out() -> None:
    schedule = generate_schedule(3)
    assert Schedule.parse("\n# as it was found\n" + str(schedule).replace("\n", "\n\n")) == schedule


def test_a_step_is_printed_as_a_line() -> None:
    step = Step(When(0.4), "client-1", "submit", {"invoice": "2", "lines": "past,1.5"})
    assert str(step) == "0.4s client-1 submit invoice=2 lines=past,1.5"


def test_an_invoice_of_an_episode_is_the_same_each_time_it_is_asked_for() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    one, other = (an_invoice(7, 2, "past,1.5", began) for _ in range(2))
    assert one == other
    assert one["invoice_id"] == "CHAOS-7-2"
    assert [line["due_date"][:19] for line in one["lines"]] == [PAST_DUE[:19], "2026-01-01T00:00:01"]
    assert an_invoice(7, 2, "past,1.5", began, changed=True) != one
