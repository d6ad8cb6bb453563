"""Verbs: match, collect, publish, schedule, execute. Use the names in `flock`; these are for those who extend it."""

from flock.core.components import ComponentRunner
from flock.core.lifecycle import LifecycleManager
from flock.core.schedule import Scheduler

__all__ = ["ComponentRunner", "LifecycleManager", "Scheduler"]
