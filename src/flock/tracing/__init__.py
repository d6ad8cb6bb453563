"""OpenTelemetry set-up at the edge: where the spans and metrics of Flocks go.

The core speaks OpenTelemetry's API alone and costs next to nothing until providers are set, by `setup` or by the
program itself.
"""

from __future__ import annotations

from flock.tracing.provision import Tracing, setup

__all__ = ["Tracing", "setup"]
