"""Runs every Python block of the documentation; a block that must not run is preceded by `<!-- skip: next -->`."""

from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def as_script(namespace: dict[str, Any]) -> None:
    """Let a page's blocks be one script, so that what a reader would guard by `__name__` runs as well."""
    namespace["__name__"] = "__main__"


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    setup=as_script,
).pytest()
