"""Flock: many agents over one shared, typed board."""

from flock.app import Flock
from flock.declaring.builder import agent
from flock.declaring.conditions import Until, When
from flock.declaring.schedule import ScheduleSpec
from flock.model.artifact import Artifact
from flock.model.collect import BatchSpec, JoinSpec
from flock.model.context import Context
from flock.model.errors import (
    AgentFailedError,
    Backpressure,
    BlockingCallWarning,
    ClosedError,
    ConfigurationError,
    FlockError,
    LimitExceeded,
    ObstructedError,
    OutputError,
    PublishError,
    RunCancelledError,
    Stale,
    StoreError,
    SyncInLoopError,
    VisibilityError,
    WaitError,
)
from flock.model.evaluation import EvalInputs, EvalResult, Failure, FanOut, OutputGroup
from flock.model.events import Event, RunReport, RunStatus, Waiting
from flock.model.payload import flock_type
from flock.model.visibility import (
    AfterVisibility,
    LabelledVisibility,
    PrivateVisibility,
    PublicVisibility,
    TenantVisibility,
    Visibility,
)
from flock.ports import AgentComponent, Engine, OrchestratorComponent
from flock.sync import run_sync

EngineComponent = Engine

__all__ = [
    "AfterVisibility", "AgentComponent", "AgentFailedError", "Artifact", "Backpressure", "BatchSpec",
    "BlockingCallWarning", "ClosedError", "ConfigurationError", "Context", "Engine", "EngineComponent", "EvalInputs",
    "EvalResult", "Event", "Failure", "FanOut", "Flock", "FlockError", "JoinSpec", "LabelledVisibility",
    "LimitExceeded", "ObstructedError", "OrchestratorComponent", "OutputError", "OutputGroup", "PrivateVisibility",
    "PublicVisibility", "PublishError", "RunCancelledError", "RunReport", "RunStatus", "ScheduleSpec", "Stale",
    "StoreError", "SyncInLoopError", "TenantVisibility", "Until", "Visibility", "VisibilityError", "WaitError",
    "Waiting", "When", "agent", "flock_type", "run_sync",
]  # fmt: skip
