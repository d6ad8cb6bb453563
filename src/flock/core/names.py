"""Every name that OpenTelemetry hears from a Flock: spans, attributes and metrics.

They follow the GenAI semantic conventions for agents of the same process; what these have no name for is `flock.*`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

SCOPE: Final = "flock"

INVOKE_WORKFLOW: Final = "invoke_workflow"
INVOKE_AGENT: Final = "invoke_agent"
EVALUATE: Final = "evaluate"

OPERATION_NAME: Final = "gen_ai.operation.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

WORKFLOW: Final = "flock.workflow"
ORCHESTRATOR_ID: Final = "flock.orchestrator_id"
ACTIVATION_ID: Final = "flock.activation_id"
ATTEMPT: Final = "flock.attempt"
TRIGGER: Final = "flock.trigger"
ENGINE: Final = "flock.engine"
CANDIDATE: Final = "flock.candidate"
OUTCOME: Final = "flock.outcome"
REASON: Final = "flock.reason"
HOOK: Final = "flock.hook"

WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
WORKFLOW_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
AGENT_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


class Counter(enum.StrEnum):
    """What is counted; the value is the metric's name."""

    ARTIFACTS_PUBLISHED = "flock.artifacts.published"
    ARTIFACTS_DROPPED = "flock.artifacts.dropped"
    ACTIVATIONS = "flock.activations"
    HOOK_ERRORS = "flock.hook.errors"
    TICKS_SKIPPED = "flock.schedule.ticks.skipped"


COUNTED: Final[Mapping[Counter, tuple[str, str]]] = {
    Counter.ARTIFACTS_PUBLISHED: ("{artifact}", "Artifacts that became durable."),
    Counter.ARTIFACTS_DROPPED: ("{artifact}", "Artifacts that were given up, by reason."),
    Counter.ACTIVATIONS: ("{activation}", "Attempts at activations that ended, by outcome."),
    Counter.HOOK_ERRORS: ("{error}", "Hooks that raised."),
    Counter.TICKS_SKIPPED: ("{tick}", "Ticks of a schedule that found their predecessor running."),
}
