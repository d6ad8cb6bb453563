"""Blocking calls and home loops: the one place where an event loop runs in a thread.

It knows loops, threads and awaitables; what a Flock is, it does not.
"""

from flock.sync.iterating import BlockingIterator
from flock.sync.methods import at_home, blocking
from flock.sync.portal import HomeKind, Portal, run_sync
from flock.sync.threads import ThreadPool

__all__ = ["BlockingIterator", "HomeKind", "Portal", "ThreadPool", "at_home", "blocking", "run_sync"]
