"""Reproducible studies: plan, run, resume and report an experiment over agents."""

from flock.studies.agents import execute_agent
from flock.studies.attempt import evaluate_problem
from flock.studies.boards import Problem
from flock.studies.conduct import StudyStoppedError
from flock.studies.definition import validate_study
from flock.studies.design.designs import DesignKind, DesignSpec, build_design, materialize_conditions
from flock.studies.design.factors import Block, Condition, Constraint, ConstraintSeverity, Factor, FactorKind, Level
from flock.studies.design.hypotheses import (
    AnalysisPlan,
    Contrast,
    Hypothesis,
    HypothesisDirection,
    HypothesisKind,
    Mediator,
    Moderator,
    OutcomeSpec,
)
from flock.studies.exports import export_canonical_artifacts
from flock.studies.metrics import compose_metrics
from flock.studies.plan import DryRunReport, Plan, dry_run_validate
from flock.studies.problems import ProblemPacket, resolve_problem
from flock.studies.record import StudyLockedError
from flock.studies.results import StudyResults
from flock.studies.runners import (
    LocalParallelRunner,
    SerialRunner,
    checkpoint_run_result,
    load_checkpointed_run_results,
    resume_study,
    run_study,
)
from flock.studies.running import StudyChangedError
from flock.studies.runs import AgentExecution, Observation, ObservationLevel, RunBudget, RunResult, RunSpec, RunStatus
from flock.studies.seeds import SeedPolicy, reproducible_seed
from flock.studies.stable import ValidationError, hash_identifier, stable_json_dumps
from flock.studies.study import RunOptions, Study, load_study

__all__ = [
    "AgentExecution", "AnalysisPlan", "Block", "Condition", "Constraint", "ConstraintSeverity", "Contrast",
    "DesignKind", "DesignSpec", "DryRunReport", "Factor", "FactorKind", "Hypothesis", "HypothesisDirection",
    "HypothesisKind", "Level", "LocalParallelRunner", "Mediator", "Moderator", "Observation", "ObservationLevel",
    "OutcomeSpec", "Plan", "Problem", "ProblemPacket", "RunBudget", "RunOptions", "RunResult", "RunSpec", "RunStatus",
    "SeedPolicy", "SerialRunner", "Study", "StudyChangedError", "StudyLockedError", "StudyResults",
    "StudyStoppedError", "ValidationError", "build_design", "checkpoint_run_result", "compose_metrics",
    "dry_run_validate", "evaluate_problem", "execute_agent", "export_canonical_artifacts", "hash_identifier",
    "load_checkpointed_run_results", "load_study", "materialize_conditions", "reproducible_seed", "resolve_problem",
    "resume_study", "run_study", "stable_json_dumps", "validate_study",
]  # fmt: skip
