"""A board's operator on any event loop."""

from __future__ import annotations

import inspect

from flock.board.keeper import BoardKeeper
from flock.sync import Portal, at_home


class HomeKeeper(BoardKeeper):
    """A board's operator on any loop: what has to be awaited runs at home."""

    __slots__ = ("portal",)

    def bind(self, portal: Portal) -> HomeKeeper:
        """Say where home is."""
        self.portal = portal
        return self


for _name, _method in inspect.getmembers(BoardKeeper, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(HomeKeeper, _name, at_home(_method))
