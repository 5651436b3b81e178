# What invoice_mcp.testing has, for type checkers and for lazy_loader, which loads it when it is used.

from .baseline.activities import BaselineNames
from .baseline.world import BaselineWorld, open_baseline_world
from .checker.checker import check
from .checker.history import Arrival, Trace, trace_of
from .checker.observations import Observations, Run, observe
from .checker.violations import RULES, Violation, Violations
from .engines.base import Engine, EngineStuck, EngineWorker
from .engines.registry import ENTRY_POINTS, EngineKind, kinds, register
from .model.actions import ACTION_ALPHABET, CLIENT_INTERFACES, PROTOCOL_MODES, Action, ClientInterface, Verb
from .model.model import Model
from .model.scenario import Line, Scenario
from .model.sequences import action_sequences, prefixes
from .records import Answer, Attempt, Outcome, Paid, Stamp, ToolRefused
from .simulate.failure import ModelMismatchError
from .simulate.fuzz.conformance import play
from .simulate.fuzz.runner import ScenarioRunner
from .simulate.process.exit import run_and_exit
from .world.base import DAY, PAST, an_invoice
from .world.environment import EnvironmentPool
from .world.fakes import RecordingPayments, ScriptedErp
from .world.task_client import TaskTools
from .world.tools import Tools
from .world.world import World, open_world

__all__ = [
    "ACTION_ALPHABET",
    "CLIENT_INTERFACES",
    "DAY",
    "ENTRY_POINTS",
    "PAST",
    "PROTOCOL_MODES",
    "RULES",
    "Action",
    "Answer",
    "Arrival",
    "Attempt",
    "BaselineNames",
    "BaselineWorld",
    "ClientInterface",
    "Engine",
    "EngineKind",
    "EngineStuck",
    "EngineWorker",
    "EnvironmentPool",
    "Line",
    "Model",
    "ModelMismatchError",
    "Observations",
    "Outcome",
    "Paid",
    "RecordingPayments",
    "Run",
    "Scenario",
    "ScenarioRunner",
    "ScriptedErp",
    "Stamp",
    "TaskTools",
    "ToolRefused",
    "Tools",
    "Trace",
    "Verb",
    "Violation",
    "Violations",
    "World",
    "action_sequences",
    "an_invoice",
    "check",
    "kinds",
    "observe",
    "open_baseline_world",
    "open_world",
    "play",
    "prefixes",
    "register",
    "run_and_exit",
    "trace_of",
]
