# The public names of invoice_mcp.testing, for type checkers and for lazy_loader, which imports each on first use.

from .checker.checker import check
from .checker.observations import Observations
from .checker.violations import Violations
from .engines.base import Engine, EngineStuckError, EngineWorker
from .engines.registry import EngineKind, kinds, register
from .model.actions import Action, Verb
from .model.model import Model
from .model.scenario import Line, Scenario
from .records import CallContext, ToolRefused
from .simulate.failure import ModelMismatchError
from .simulate.fuzz.conformance import play
from .simulate.fuzz.runner import ScenarioRunner
from .simulate.process.exit import run_and_exit
from .world.base import PAST_DUE, an_invoice
from .world.environment import EnvironmentPool
from .world.world import World, open_world

__all__ = [
    "PAST_DUE",
    "Action",
    "CallContext",
    "Engine",
    "EngineKind",
    "EngineStuckError",
    "EngineWorker",
    "EnvironmentPool",
    "Line",
    "Model",
    "ModelMismatchError",
    "Observations",
    "Scenario",
    "ScenarioRunner",
    "ToolRefused",
    "Verb",
    "Violations",
    "World",
    "an_invoice",
    "check",
    "kinds",
    "open_world",
    "play",
    "register",
    "run_and_exit",
]
