# What invoice_mcp.testing has, for type checkers and for lazy_loader, which loads it when it is used.

from .baseline.activities import SeedNames
from .baseline.world import SeedWorld, open_seed_world
from .checker.checker import check
from .checker.history import Arrival, Trace, trace_of
from .checker.observations import Observations, Run, observe
from .checker.violations import RULES, Violation, Violations
from .engines.base import Engine, EngineStuck, EngineWorker
from .engines.registry import ENTRY_POINTS, EngineKind, kinds, register
from .model.actions import DOORS, ERAS, LETTERS, Action, Door, Verb
from .model.model import Model
from .model.scenario import Line, Scenario
from .model.sequences import prefixes, words
from .records import Answer, Attempt, Outcome, Paid, Stamp, ToolRefused
from .simulate.fuzz.conformance import ModelViolated, play
from .simulate.fuzz.runner import StageRunner
from .simulate.process.exit import run_and_leave
from .world.base import DAY, PAST, an_invoice
from .world.environment import StageKeeper
from .world.fakes import RecordingPayments, ScriptedErp
from .world.task_client import TaskTools
from .world.tools import Tools
from .world.world import World, open_world

__all__ = [
    "DAY",
    "DOORS",
    "ENTRY_POINTS",
    "ERAS",
    "LETTERS",
    "PAST",
    "RULES",
    "Action",
    "Answer",
    "Arrival",
    "Attempt",
    "Door",
    "Engine",
    "EngineKind",
    "EngineStuck",
    "EngineWorker",
    "Line",
    "Model",
    "ModelViolated",
    "Observations",
    "Outcome",
    "Paid",
    "RecordingPayments",
    "Run",
    "Scenario",
    "ScriptedErp",
    "SeedNames",
    "SeedWorld",
    "StageKeeper",
    "StageRunner",
    "Stamp",
    "TaskTools",
    "ToolRefused",
    "Tools",
    "Trace",
    "Verb",
    "Violation",
    "Violations",
    "World",
    "an_invoice",
    "check",
    "kinds",
    "observe",
    "open_seed_world",
    "open_world",
    "play",
    "prefixes",
    "register",
    "run_and_leave",
    "trace_of",
    "words",
]
