"""Running hooks: in order of priority, each guarded by itself."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

from flock.core.signals import Signals


class ComponentRunner:
    """Runs one hook of several components; one that raises is recorded once and stops none of the others."""

    def __init__(self, components: Sequence[object], signals: Signals, *, agent: str | None = None) -> None:
        """Keep the components, lowest priority first."""
        self.components = sorted(components, key=_priority)
        self._signals = signals
        self._agent = agent

    async def run_hook(self, name: str, *args: Any) -> AsyncIterator[tuple[object, Any]]:  # noqa: ANN401 - hooks differ
        """Give `(component, result)` for each component that has the hook and did not raise."""
        for component in self.components:
            hook = getattr(component, name, None)
            if hook is None:
                continue
            try:
                result = hook(*args)
                if inspect.isawaitable(result):
                    result = await result
            except Exception as error:  # noqa: BLE001 - the guard of hooks
                self._signals.hook_failed(f"{type(component).__name__}.{name}", error, agent=self._agent)
            else:
                yield component, result

    async def notify(self, name: str, *args: Any) -> None:  # noqa: ANN401
        """Run a hook for its effect."""
        async for _ in self.run_hook(name, *args):
            pass

    async def transform(self, name: str, kind: type, value: Any, *args: Any) -> Any:  # noqa: ANN401
        """Run a hook that may replace its last argument; each component sees what the one before it gave."""
        for component in self.components:
            one = ComponentRunner((component,), self._signals, agent=self._agent)
            async for _, result in one.run_hook(name, *args, value):
                if isinstance(result, kind):
                    value = result
        return value


def _priority(component: object) -> float:
    return float(getattr(component, "priority", 0))
