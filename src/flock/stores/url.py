"""Stores by URL."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from flock.model.errors import ConfigurationError
from flock.stores.memory import MemoryStore


def open_store(url: str) -> MemoryStore:
    """Make the store that a URL names; raises ConfigurationError for unknown schemes and options."""
    parts = urlsplit(url)
    if parts.scheme != "memory":
        message = f"no store for {url!r}: this version has 'memory://' and 'memory://?keep_runs=n'"
        raise ConfigurationError(message)
    options = parse_qs(parts.query, keep_blank_values=True)
    keep = options.pop("keep_runs", None)
    if options:
        message = f"unknown option {', '.join(sorted(options))} in {url!r}; memory stores know keep_runs"
        raise ConfigurationError(message)
    if keep is None:
        return MemoryStore()
    if not keep[-1].isdigit():
        message = f"keep_runs in {url!r} takes a count of zero or more"
        raise ConfigurationError(message)
    return MemoryStore(keep_runs=int(keep[-1]))
