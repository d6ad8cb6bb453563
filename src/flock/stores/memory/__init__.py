"""A board in memory."""

from flock.stores.memory.store import MemoryStore as MemoryStore
