"""Looks at a board as a user who may read and not write."""

from lives import Journal
from powerless import give_up_rights

from flock import StoreError
from flock.core.clock import SystemClock
from flock.core.roster import Catalog
from flock.model.ledger import Query
from flock.stores.sqlite.store import SQLiteStore


async def play(url: str, journal: Journal) -> int | str:
    """Count the artifacts, or give what the store says."""
    await give_up_rights()
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    try:
        await store.look(SystemClock(), Catalog())
        return len(await store.query(Query()))
    except StoreError as error:
        return str(error)
