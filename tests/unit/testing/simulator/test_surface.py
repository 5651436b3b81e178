"""The guard: everything of the SDK that the simulator stands on and that is no documented surface, by name.

When an upgrade of temporalio turns one of these red, the simulator has to be looked at before it is believed again.
Where it can't even be imported any more, neither can what other tests have in common: run this file with --noconftest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from importlib import import_module
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import ServiceClient
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from tests.unit.testing.simulator import workflows

STANDS_ON = "The simulator stands on this part of temporalio, which has changed: "
QUEUE = "toys"

DETAILS = {
    "payload_converter_factory", "failure_converter_class", "interceptor_classes", "defn", "info", "randomness_seed",
    "extern_functions", "disable_eager_activity_execution", "worker_level_failure_exception_types",
    "patch_activation_callback", "last_completion_result", "last_failure", "default_workflow_logic_flags",
}  # fmt: skip

EXTERN = {"__temporal_get_metric_meter", "__temporal_assert_local_activity_valid"}

# What the core can tell the code of a workflow. The simulator tells all of it but what is set aside.
JOBS = {
    "cancel_workflow", "do_update", "fire_timer", "initialize_workflow", "notify_has_patch", "query_workflow",
    "remove_from_cache", "resolve_activity", "resolve_child_workflow_execution",
    "resolve_child_workflow_execution_start", "resolve_request_cancel_external_workflow",
    "resolve_signal_external_workflow", "signal_workflow",
}  # fmt: skip
JOBS_SET_ASIDE = {"resolve_nexus_operation", "resolve_nexus_operation_start", "update_random_seed"}

# What code can want. What is set aside is refused loudly.
COMMANDS_SET_ASIDE = {
    "cancel_signal_workflow", "continue_as_new_workflow_execution", "request_cancel_local_activity",
    "request_cancel_nexus_operation", "schedule_local_activity", "schedule_nexus_operation",
}  # fmt: skip
ANSWERS = {"respond_to_query"}

# Requests of the client that have an answer.
REQUESTS = {
    "start_workflow_execution", "signal_with_start_workflow_execution", "signal_workflow_execution",
    "request_cancel_workflow_execution", "terminate_workflow_execution", "update_workflow_execution",
    "poll_workflow_execution_update", "query_workflow", "describe_workflow_execution",
    "get_workflow_execution_history", "list_workflow_executions", "count_workflow_executions", "get_system_info",
    "describe_task_queue", "describe_namespace",
}  # fmt: skip


def found(module: str, name: str = "") -> Any:
    """A module, or what is in it. Imported in a test, so that the test says what is missing."""
    try:
        there = import_module(module)
    except ImportError as missing:
        pytest.fail(STANDS_ON + f"{module} can't be imported: {missing}")
    assert not name or hasattr(there, name), STANDS_ON + f"there is no {module}.{name}"
    return getattr(there, name) if name else there


def of_simulator(name: str, module: str = "") -> Any:
    return found(f"temporal_simulator{module}", name)


def variants(message: type[Message]) -> set[str]:
    return {field.name for field in message.DESCRIPTOR.oneofs_by_name["variant"].fields}


def test_the_code_of_a_run_is_kept_in_this_class() -> None:
    kept_in = found("temporalio.worker._workflow_instance", "_WorkflowInstanceImpl")
    assert issubclass(kept_in, WorkflowInstance), STANDS_ON + "what an instance is made by"


def test_code_reaches_the_worker_by_these_functions() -> None:
    declared = found("temporalio.worker._workflow_instance", "_WorkflowExternFunctions").__annotations__
    # In a class, Python puts its name before names that begin like these.
    functions = {name.removeprefix("_WorkflowExternFunctions") for name in declared}
    assert functions == EXTERN, STANDS_ON + "the functions that code calls outside of its sandbox"
    worker = of_simulator("Worker")([], [])
    assert set(worker._extern) == EXTERN


def test_an_instance_is_made_of_these_details() -> None:
    assert {each.name for each in dataclasses.fields(WorkflowInstanceDetails)} == DETAILS, STANDS_ON + "its details"


def test_a_runner_makes_instances_and_an_instance_takes_activations() -> None:
    makes = list(inspect.signature(WorkflowRunner.create_instance).parameters)
    assert makes == ["self", "det"], STANDS_ON + "how a runner makes instances"
    prepares = list(inspect.signature(WorkflowRunner.prepare_workflow).parameters)
    assert prepares == ["self", "defn"], STANDS_ON + "how a runner prepares workflows"
    takes = list(inspect.signature(WorkflowInstance.activate).parameters)
    assert takes == ["self", "act"], STANDS_ON + "how an instance is activated"
    assert issubclass(UnsandboxedWorkflowRunner, WorkflowRunner), STANDS_ON + "the runner without a sandbox"
    abstract: frozenset[str] = WorkflowInstance.__abstractmethods__
    answers = set(vars(of_simulator("MemoizedInstance", ".worker.memoize")))
    assert abstract <= answers, STANDS_ON + f"an instance can be asked {sorted(abstract - answers)}"


def test_the_core_tells_nothing_that_is_unknown_here() -> None:
    told = variants(found("temporalio.bridge.proto.workflow_activation", "WorkflowActivationJob"))
    assert told == JOBS | JOBS_SET_ASIDE, STANDS_ON + "the jobs of an activation"


def test_code_wants_nothing_that_is_neither_carried_out_nor_refused_on_purpose() -> None:
    wanted = variants(found("temporalio.bridge.proto.workflow_commands", "WorkflowCommand"))
    carried_out = set(of_simulator("_CARRY_OUT", ".server.commands"))
    assert wanted == carried_out | COMMANDS_SET_ASIDE | ANSWERS, STANDS_ON + "the commands of a workflow"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_client_asks_by_these_names(name: str) -> None:
    service = found("temporalio.bridge.services_generated", "WorkflowService")
    assert hasattr(service, name), STANDS_ON + f"the request {name}"
    assert hasattr(of_simulator("SimulatedService", ".client.service"), f"_{name}")


def test_a_service_client_has_one_door() -> None:
    abstract: frozenset[str] = ServiceClient.__abstractmethods__
    client_interfaces = {"_rpc_call", "update_api_key", "update_rpc_metadata", "worker_service_client"}
    assert abstract == client_interfaces, STANDS_ON + "what a service client has to have"
    parameters = {"self", "rpc", "req", "resp_type", "service", "retry", "metadata", "timeout"}
    assert set(inspect.signature(ServiceClient._rpc_call).parameters) == parameters, STANDS_ON + "its calls"
    takes = inspect.signature(Client.__init__).parameters
    assert "service_client" in takes, STANDS_ON + "that a client is given its service"


def test_definitions_can_be_read() -> None:
    @activity.defn(name="named too")
    async def toy(text: str) -> None: ...

    for module, reader in ((workflow, "must_from_class"), (activity, "must_from_callable")):
        definitions = getattr(module, "_Definition", None)
        assert hasattr(definitions, reader), STANDS_ON + f"{module.__name__}._Definition.{reader}"
    assert workflow._Definition.must_from_class(workflows.Inbox).name == "Inbox", STANDS_ON + "definitions of workflows"
    definition = activity._Definition.must_from_callable(toy)
    told = definition.name, definition.arg_types
    assert told == ("named too", [str]), STANDS_ON + "definitions of activities"


def test_an_activity_can_be_run_with_what_it_may_know() -> None:
    environment = ActivityEnvironment()
    fields = {each.name for each in dataclasses.fields(type(environment.info))}
    needed = {"activity_id", "attempt", "started_time", "workflow_run_id", "activity_run_id"}
    assert fields >= needed, STANDS_ON + f"what an activity may know lacks {sorted(needed - fields)}"
    assert {"payload_converter", "info"} <= set(vars(environment)), STANDS_ON + "the environment of activities"


def test_a_workflows_info_has_these_fields() -> None:
    known: set[str] = {each.name for each in dataclasses.fields(workflow.Info)}
    assert known == {
        "attempt", "continued_run_id", "cron_schedule", "execution_timeout", "first_execution_run_id", "headers",
        "namespace", "original_execution_run_id", "parent", "priority", "raw_memo", "retry_policy", "root", "run_id",
        "run_timeout", "search_attributes", "start_time", "task_queue", "task_timeout", "typed_search_attributes",
        "workflow_id", "workflow_start_time", "workflow_type",
    }, STANDS_ON + "workflow.Info"  # fmt: skip


async def test_an_event_loop_can_be_put_back() -> None:
    loop: Any = asyncio.get_running_loop()
    asyncio._set_running_loop(loop)
    assert asyncio.get_running_loop() is loop, "The simulator stands on asyncio._set_running_loop"


# What the fingerprint of a workflow's code is made of, and what it leaves out, with the reason.
OF_THE_CODE = {
    "_buffered_signals", "_cancel_reason", "_curr_seqs", "_current_details", "_in_progress_signals",
    "_in_progress_updates", "_object", "_patches_memoized", "_patches_notified", "_pending_activities",
    "_pending_child_workflows", "_pending_external_cancels", "_pending_external_signals", "_pending_timers", "_random",
    "_signals", "_tasks", "_updates",
}  # fmt: skip
LEFT_OUT = {
    # The same for a run as long as it lives.
    "__temporal_workflow_runtime", "_context_free_failure_converter", "_context_free_payload_converter",
    "_current_seed", "_default_workflow_logic_flags", "_defn", "_disable_eager_activity_execution",
    "_dynamic_failure_exception_types", "_extern_functions", "_inbound", "_info", "_last_completion_result",
    "_last_failure", "_logger_details", "_outbound", "_patch_activation_callback", "_queries", "_seed_callbacks",
    "_versioning_behavior", "_worker_level_failure_exception_types", "_workflow_context_failure_converter",
    "_workflow_context_payload_converter", "_workflow_input",
    # Of the activation that was the last.
    "_cancel_primary_task_pending", "_continue_as_new_suggested", "_current_history_length", "_current_history_size",
    "_current_thread_id", "_deleting", "_deployment_version_for_current_task", "_in_query_or_validator",
    "_is_replaying", "_read_only", "_ready", "_target_worker_deployment_version_changed", "_time_ns",
    # Told by what is in it already or by what the server keeps; or a number that only names.
    "_conditions", "_exception_handler", "_handled_signals_seq", "_metric_meter", "_pending_nexus_operations",
    "_primary_task", "_untyped_converted_memo",
}  # fmt: skip


async def test_an_instance_keeps_nothing_that_its_fingerprint_does_not_know_of() -> None:
    simulation = of_simulator("Simulation")()
    simulation.start_worker(QUEUE, of_simulator("Worker")([workflows.Timers], []))
    run = simulation.start(of_simulator("Start")("toy", "Timers", QUEUE))
    await simulation.run()
    kept = set(vars(simulation.create_instance(run, 0)))
    assert kept <= OF_THE_CODE | LEFT_OUT, STANDS_ON + f"instances keep {sorted(kept - OF_THE_CODE - LEFT_OUT)}"
    assert kept >= OF_THE_CODE, STANDS_ON + f"instances do not keep {sorted(OF_THE_CODE - kept)}"
    await simulation.close()
