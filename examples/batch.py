"""Batches: parcels leave in vans of three, and a van that is not full leaves when its first parcel has waited enough.

`BatchSpec` collects by size, by time, or, as here, by whichever comes first. The function takes a list, and `timeout`
counts from the first parcel of a van. Nothing polls: one timer waits for the next deadline.

    python examples/batch.py
    flock run examples/batch.py --publish '[{"type": "Parcel", "to": "Rome"}, {"type": "Parcel", "to": "Oslo"}]'
"""

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from flock import BatchSpec, Flock


class Parcel(BaseModel):
    """Something to deliver."""

    to: str


class Tour(BaseModel):
    """One van and where it goes."""

    stops: list[str]


FULL = 3

flock = Flock()


@flock.agent("van").consumes(Parcel, batch=BatchSpec(size=FULL, timeout=0.1))
async def load(parcels: list[Parcel]) -> Tour:
    """Plan a tour for the parcels of one van."""
    return Tour(stops=sorted(parcel.to for parcel in parcels))


async def deliver(*towns: str) -> Sequence[Tour]:
    """Publish a parcel for each town and wait until all vans have left."""
    async with flock:
        await flock.publish_many([Parcel(to=town) for town in towns])
        await flock.run_until_idle()
        return await flock.store.get_by_type(Tour)


def main() -> Sequence[Tour]:
    """Return three Tours: two full vans, and one that left with the last parcel when its time was over."""
    tours = asyncio.run(deliver("Rome", "Oslo", "Bern", "Kyiv", "Lima", "Doha", "Cork"))
    for number, tour in enumerate(tours, 1):
        why = "is full" if len(tour.stops) == FULL else "has waited enough"
        print(f"van {number} {why}: {' > '.join(tour.stops)}")
    return tours


if __name__ == "__main__":
    main()
