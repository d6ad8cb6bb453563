"""Reading Python source once for all analysers."""

import ast
import io
import threading
import tokenize
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple


class Parsed(NamedTuple):
    """A syntax tree, empty when the source has an error."""

    tree: ast.Module
    error: str = ""
    line: int = 1


# Filtering warnings changes the whole process, so only one thread parses at a time.
_parsing = threading.Lock()


def parse(text: str) -> Parsed:
    """Parse a source text; never raises and never warns."""
    with _parsing:
        return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> Parsed:
    nothing = ast.Module(body=[], type_ignores=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Parsed(ast.parse(text))
        except SyntaxError as error:
            return Parsed(nothing, error.msg, error.lineno or 1)
        except (ValueError, RecursionError, MemoryError) as error:
            return Parsed(nothing, str(error) or type(error).__name__)


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Give the comments of a source text with their lines, up to where it stops being Python."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):  # the last from 3.12 on, for odd line ends
        return
