"""Every name that OpenTelemetry hears from a Flock: spans, attributes and metrics.

They follow the GenAI semantic conventions for agents of the same process; what these have no name for is `flock.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flock.ports import Counted

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

WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
WORKFLOW_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
AGENT_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
DURATIONS: Final = (
    (WORKFLOW_DURATION, "Duration of a workflow, from its start until its caller left it.", WORKFLOW_BUCKETS),
    (AGENT_DURATION, "Duration of one attempt at an activation.", AGENT_BUCKETS),
)

LABELS: Final = {"agent": AGENT_NAME, "outcome": "flock.outcome", "reason": "flock.reason", "hook": "flock.hook"}


# What is counted: the metric's name, its unit, and what it says.
COUNTERS: Final[Mapping[Counted, tuple[str, str, str]]] = {
    "published": ("flock.artifacts.published", "{artifact}", "Artifacts that became durable."),
    "dropped": ("flock.artifacts.dropped", "{artifact}", "Artifacts that were given up, by reason."),
    "activations": ("flock.activations", "{activation}", "Attempts at activations that ended, by outcome."),
    "hook errors": ("flock.hook.errors", "{error}", "Hooks that raised."),
    "skipped ticks": (
        "flock.schedule.ticks.skipped", "{tick}", "Ticks of a schedule that found the last one running.",
    ),
}  # fmt: skip
