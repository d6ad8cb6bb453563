"""FastAPI: a flock behind HTTP. Each request has a run of its own, and a client that disconnects cancels it.

The flock lives on the server's event loop for as long as the server does. `async def` routes await it, `def` routes use
its blocking twin from the server's worker threads, and a stream of a run's artifacts becomes server-sent events.

    python examples/fastapi_app.py --port 8000      # or, in the folder examples: uvicorn fastapi_app:app
    curl localhost:8000/replies --json '{"text": "My invoice is wrong!"}'
    curl localhost:8000/topics --json '{"text": "My invoice is wrong!"}'
    curl --no-buffer 'localhost:8000/news?text=My+invoice+is+wrong'
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from flock import Artifact, Failure, Flock

T = TypeVar("T")


class Ticket(BaseModel):
    """What a customer writes."""

    text: str


class Topic(BaseModel):
    """What it is about."""

    name: str


class Reply(BaseModel):
    """What the customer reads."""

    text: str


flock = Flock(name="support")


@flock.agent
def sorter(ticket: Ticket) -> Topic:
    """Find the topic; a plain function runs in a thread of the flock, where it may block."""
    return Topic(name="billing" if "invoice" in ticket.text else "other")


@flock.agent
async def writer(ticket: Ticket, topic: Topic) -> Reply:
    """Answer, once the topic is known."""
    return Reply(text=f"Our {topic.name} team looks at it: {ticket.text}")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    """Start the flock on the server's loop, and shut it down with the server."""
    async with flock:
        yield


app = FastAPI(title="Support", lifespan=lifespan)


@app.get("/health")
async def health() -> str:
    """Say that the flock is at work; raises ClosedError once it has been shut down."""
    await flock.ready()
    return "ok"


@app.post("/replies")
async def reply(ticket: Ticket, request: Request) -> Reply:
    """Ask, and wait for the answer. The question has a run of its own, in the trace of the request."""
    async with flock.traced_run("reply"):
        return await unless_gone(request, flock.ask(ticket, returns=Reply, timeout=30))


@app.post("/topics")
def sort(ticket: Ticket) -> Topic:
    """Do without `await`: a `def` route has a thread of the server to itself, and the event loop goes on."""
    with flock.sync.traced_run("topic"):
        return flock.sync.ask(ticket, returns=Topic, timeout=30)


@app.get("/news")
async def follow(text: str) -> StreamingResponse:
    """Give what becomes of a ticket as server-sent events, each as soon as it is on the board."""
    async with flock.traced_run("news"):
        run = flock.correlation_id
        news = flock.stream(Topic, Reply, Failure, correlation_id=run)
        await flock.publish(Ticket(text=text))
    return StreamingResponse(as_events(news, run), media_type="text/event-stream")


async def as_events(news: AsyncGenerator[Artifact, None], run: str) -> AsyncGenerator[str, None]:
    """Give artifacts as events up to the reply; a client that disconnects before that cancels the run."""
    try:
        async with aclosing(news):
            async for artifact in news:
                payload: BaseModel = artifact.payload
                shown = {"agent", "message"} if isinstance(payload, Failure) else None  # no traceback
                yield f"event: {type(payload).__name__}\ndata: {payload.model_dump_json(include=shown)}\n\n"
                if isinstance(payload, Reply | Failure):
                    return
    except (asyncio.CancelledError, GeneratorExit):
        await flock.cancel(run)
        raise


async def unless_gone(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """Await an answer; a client that disconnects before that cancels it, and `ask` cancels its run then."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    asked, gone = asyncio.create_task(answer), asyncio.create_task(disconnected())
    try:
        await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise HTTPException(499, "the client has gone")
        return asked.result()
    finally:
        gone.cancel()
        asked.cancel()


def main() -> None:
    """Serve on this machine."""
    parser = argparse.ArgumentParser(description="Answers tickets over HTTP.")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: %(default)s)")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
