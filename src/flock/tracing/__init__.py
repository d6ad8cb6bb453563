"""OpenTelemetry set-up at the edge: where the spans and metrics of Flocks go.

All the rest of Flock speaks OpenTelemetry's API alone (`flock.telemetry`), which costs next to nothing until providers
are set, by `setup` or by the program itself.
"""

from __future__ import annotations

from flock.tracing.provision import Tracing, setup

__all__ = ["Tracing", "setup"]
