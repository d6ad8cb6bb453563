"""Stores by URL."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast
from urllib.parse import parse_qs, unquote, urlsplit

from flock.model.errors import ConfigurationError
from flock.ports import Store

# A scheme's module is imported when a URL first names it: a board in memory needs no database.
_SCHEMES: Final = {"memory": "flock.stores.memory.store", "sqlite": "flock.stores.sqlite.store"}


class _Module(Protocol):
    from_url: Callable[[str, Mapping[str, str]], Store]
    OPTIONS: tuple[str, ...]


def open_store(url: str) -> Store:
    """Make the store that a URL names, and open nothing; raises ConfigurationError for what no store understands."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"no store for {url!r}: this version has 'memory://', 'memory://?keep_runs=n' and 'sqlite:///board.db'"
        )
    module = cast("_Module", importlib.import_module(_SCHEMES[parts.scheme]))
    given = parse_qs(parts.query, keep_blank_values=True)
    repeated = [name for name, values in given.items() if len(values) > 1]
    if repeated:
        raise ConfigurationError(f"option {', '.join(repeated)} is there more than once in {url!r}: give it once")
    options = {name: values[0] for name, values in given.items()}
    unknown = sorted(options.keys() - set(module.OPTIONS))
    if unknown:
        known = ", ".join(module.OPTIONS)
        raise ConfigurationError(f"unknown option {', '.join(unknown)} in {url!r}; {parts.scheme} stores know {known}")
    try:
        return module.from_url(unquote(parts.netloc + parts.path), options)
    except ValueError as error:
        raise ConfigurationError(f"{url!r}: {error}") from error
