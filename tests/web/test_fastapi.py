"""Behind FastAPI: the example, and a shop whose gates would mix requests that shared a run, on a real server."""

import asyncio
import contextlib
import importlib.util
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Self

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from typing_extensions import override

from flock import ClosedError, Context, Flock

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `httpx`")  # in favour of its successor
    from fastapi.testclient import TestClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app.py"
MANY = 100


class Order(BaseModel):
    number: int


class Payment(BaseModel):
    number: int


class Receipt(BaseModel):
    order: int
    payment: int


class Answer(BaseModel):
    receipts: list[Receipt]
    run: str


class Slow(BaseModel):
    number: int


class Shop:
    """An app and its flock: a receipt needs an order and a payment of one run."""

    def __init__(self) -> None:
        self.flock = Flock(name="shop")
        self.app = FastAPI(lifespan=self.lifespan)
        self.app.get("/async/{number}")(self.buy)
        self.app.get("/def/{number}")(self.buy_blocking)
        self.app.get("/slow/{number}")(self.wait)
        self.app.get("/health")(self.health)

        @self.flock.agent
        async def cashier(order: Order, payment: Payment) -> Receipt:
            await asyncio.sleep(0)
            return Receipt(order=order.number, payment=payment.number)

        @self.flock.agent
        def sleeper(slow: Slow) -> None:
            threading.Event().wait(0.2)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncGenerator[None, None]:
        async with self.flock:
            yield

    async def buy(self, number: int) -> Answer:
        flock = self.flock
        async with flock.traced_run("buy"):
            await flock.publish(Order(number=number))
            await asyncio.sleep(0.01)  # others come in between
            await flock.publish(Payment(number=number))
            await flock.run_until_idle()
            run = flock.correlation_id
        found = await flock.store.query(Receipt, correlation_id=run)
        return Answer(receipts=[artifact.payload for artifact in found], run=run)

    def buy_blocking(self, number: int) -> Answer:
        flock = self.flock.sync
        with flock.traced_run("buy"):
            flock.publish(Order(number=number))
            threading.Event().wait(0.01)  # others come in between
            flock.publish(Payment(number=number))
            flock.run_until_idle()
            run = self.flock.correlation_id
        found = flock.store.query(Receipt, correlation_id=run)
        return Answer(receipts=[artifact.payload for artifact in found], run=run)

    def wait(self, number: int) -> int:
        with self.flock.sync.traced_run("wait"):
            self.flock.sync.publish(Slow(number=number))
            return self.flock.sync.run_until_idle().succeeded

    async def health(self) -> str:
        await self.flock.ready()
        return "ok"


class Server(uvicorn.Server):
    """Uvicorn in a thread, on a port of its own."""

    def __init__(self, app: FastAPI, loop: str = "auto") -> None:
        super().__init__(uvicorn.Config(app, port=0, loop=loop, log_config=None))
        self.ready = threading.Event()
        self.url = ""

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.url = "http://{}:{}".format(*self.servers[0].sockets[0].getsockname())
        self.ready.set()

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def client(self) -> httpx.AsyncClient:
        """Give a client that holds nothing back."""
        return httpx.AsyncClient(base_url=self.url, limits=httpx.Limits(), timeout=30)


class Stuck:
    """Replaces the example's writer by one that never answers, and sees how it ends."""

    def __init__(self, example: ModuleType) -> None:
        self.flock: Flock = example.flock
        self.run = ""
        self.began, self.cancelled = threading.Event(), threading.Event()
        self.flock.remove_agent("writer")
        stuck = self.flock.agent("writer").consumes(example.Ticket, where=lambda ticket: ticket.text == "stuck")
        stuck.publishes(example.Reply).calls(self.write)

    async def write(self, ctx: Context) -> None:
        self.run = ctx.correlation_id
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def is_cancelled(self) -> bool:
        """Wait until it is; says whether its run was, too. Awaits the flock from another loop than its own."""
        return (
            await asyncio.to_thread(self.cancelled.wait, 10)
            and (await self.flock.status(self.run)).state == "cancelled"
        )


@pytest.fixture
def example() -> ModuleType:
    """The example, imported anew: its flock serves once."""
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["asyncio", "auto"])
def shop(request: pytest.FixtureRequest) -> Iterator[tuple[Shop, Server]]:
    """The shop on a server, on the event loop of the library and on the one that the server prefers."""
    made = Shop()
    with Server(made.app, request.param) as server:
        yield made, server


@pytest.fixture
def served(example: ModuleType) -> Iterator[Server]:
    """The example on a server."""
    with Server(example.app) as server:
        yield server


@pytest.fixture
async def quick_loop() -> None:
    """Let a client with a hundred requests on its hands do without the loop's own checks, which slow it down."""
    asyncio.get_running_loop().set_debug(False)


def client_of(app: FastAPI) -> httpx.Client:
    """Give FastAPI's own client, which runs the lifespan around it."""
    return TestClient(app)


def events_in(text: str) -> list[str]:
    """Give the names of server-sent events."""
    return re.findall(r"^event: (\w+)$", text, re.MULTILINE)


async def lines_of(client: httpx.AsyncClient, path: str, **params: str) -> AsyncGenerator[str, None]:
    """Give the lines of a response as they come; leaving early disconnects."""
    async with client.stream("GET", path, params=params) as response:
        async for line in response.aiter_lines():
            yield line


# ---- through FastAPI's own client


def test_the_example_answers_to_an_async_and_to_a_def_route(example: ModuleType) -> None:
    with client_of(example.app) as client:
        replied = client.post("/replies", json={"text": "My invoice is wrong"})
        sorted_out = client.post("/topics", json={"text": "My invoice is wrong"})
        refused = client.post("/replies", json={"words": 3})
    assert replied.json() == {"text": "Our billing team looks at it: My invoice is wrong"}
    assert sorted_out.json() == {"name": "billing"}
    assert refused.status_code == 422


def test_the_example_tells_what_becomes_of_a_ticket_as_server_sent_events(example: ModuleType) -> None:
    with client_of(example.app) as client:
        news = client.get("/news", params={"text": "hello"})
    assert news.headers["content-type"].startswith("text/event-stream")
    assert news.text == (
        'event: Topic\ndata: {"name":"other"}\n\nevent: Reply\ndata: {"text":"Our other team looks at it: hello"}\n\n'
    )


def test_a_failing_agent_ends_the_events_with_its_failure(example: ModuleType) -> None:
    example.flock.remove_agent("writer")

    async def fail() -> None:
        raise RuntimeError("out of ink")

    example.flock.agent("writer").consumes(example.Ticket).publishes(example.Reply).calls(fail)
    with client_of(example.app) as client:
        news = client.get("/news", params={"text": "hello"})
    assert events_in(news.text)[-1] == "Failure"
    assert "out of ink" in news.text


def test_the_lifespan_starts_the_flock_and_shuts_it_down(example: ModuleType) -> None:
    with client_of(example.app) as client:
        assert client.get("/health").json() == "ok"
    with pytest.raises(ClosedError):
        example.flock.sync.ready()
    with pytest.raises(ClosedError), client_of(example.app):
        pass


def test_a_request_without_a_body_is_not_taken_for_one_whose_client_has_gone(example: ModuleType) -> None:
    async def greet(request: Request) -> str:
        asked: Coroutine[None, None, BaseModel] = example.flock.ask(example.Ticket(text="hi"), returns=example.Reply)
        reply: BaseModel = await example.unless_gone(request, asked)
        return reply.model_dump_json()

    example.app.get("/greeting")(greet)
    with client_of(example.app) as client:
        assert client.get("/greeting").status_code == 200


def test_a_question_that_was_answered_is_not_cancelled_by_the_end_of_its_request(example: ModuleType) -> None:
    with client_of(example.app) as client:
        for _ in range(3):
            client.post("/replies", json={"text": "hello"})
            client.get("/news", params={"text": "hello"})
        blocking = example.flock.sync
        states = [blocking.status(run).state for run in blocking.store.runs()]
    assert states == ["succeeded"] * 6


# ---- through a server


@pytest.mark.usefixtures("quick_loop")
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_each_of_a_hundred_requests_at_once_has_a_run_of_its_own(kind: str, shop: tuple[Shop, Server]) -> None:
    made, server = shop
    async with server.client() as client:
        responses = await asyncio.gather(*(client.get(f"/{kind}/{number}") for number in range(MANY)))
    answers = [Answer.model_validate(response.raise_for_status().json()) for response in responses]
    assert [answer.receipts for answer in answers] == [[Receipt(order=n, payment=n)] for n in range(MANY)]
    assert len({answer.run for answer in answers}) == MANY
    statuses = [await made.flock.status(answer.run) for answer in answers]
    assert {(status.state, status.artifacts) for status in statuses} == {("succeeded", 3)}


@pytest.mark.usefixtures("quick_loop")
async def test_the_example_serves_a_hundred_requests_of_all_kinds_at_once_and_mixes_none(served: Server) -> None:
    async def ask(number: int) -> Sequence[str]:
        text = f"<{number}> invoice" if number % 2 else f"<{number}>"
        match number % 3:
            case 0:
                reply = await client.post("/replies", json={"text": text})
                return [reply.json()["text"]]
            case 1:
                topic = await client.post("/topics", json={"text": text})
                return [topic.json()["name"]]
            case _:
                news = await client.get("/news", params={"text": text})
                return [*events_in(news.text), *re.findall(r"Our .*>", news.text)]

    def expected(number: int) -> Sequence[str]:
        topic = "billing" if number % 2 else "other"
        reply = f"Our {topic} team looks at it: <{number}>"
        return [[reply + " invoice" * (number % 2)], [topic], ["Topic", "Reply", reply]][number % 3]

    async with served.client() as client:
        answers = await asyncio.gather(*map(ask, range(MANY)))
    assert answers == [expected(number) for number in range(MANY)]


@pytest.mark.usefixtures("quick_loop")
async def test_the_health_route_answers_in_50_ms_while_def_routes_are_at_work() -> None:
    elapsed: list[float] = []
    with Server(Shop().app) as server:
        await probe_health(server, elapsed)
    assert len(elapsed) >= 10
    assert statistics.median(elapsed) < 0.05


async def probe_health(server: Server, elapsed: list[float]) -> None:
    """Measure the health route until a hundred slow requests are done."""
    async with server.client() as client, server.client() as probe, asyncio.TaskGroup() as group:
        at_work = [group.create_task(client.get(f"/slow/{number}")) for number in range(MANY)]
        while not all(task.done() for task in at_work):
            elapsed.append((await probe.get("/health")).elapsed.total_seconds())
            await asyncio.sleep(0.01)
    assert [task.result().json() for task in at_work] == [1] * MANY


async def test_events_come_while_the_run_still_works(example: ModuleType) -> None:
    stuck = Stuck(example)
    with Server(example.app) as server:
        async with server.client() as client, contextlib.aclosing(lines_of(client, "/news", text="stuck")) as lines:
            assert await anext(lines) == "event: Topic"
            assert not stuck.cancelled.is_set()


async def test_a_reader_of_events_who_disconnects_cancels_the_run(example: ModuleType) -> None:
    stuck = Stuck(example)
    with Server(example.app) as server:
        async with server.client() as client:
            async with contextlib.aclosing(lines_of(client, "/news", text="stuck")) as lines:
                await anext(lines)
                assert await asyncio.to_thread(stuck.began.wait, 10)
            assert await stuck.is_cancelled()
            assert (await client.get("/health")).json() == "ok"


async def test_who_disconnects_before_the_answer_cancels_the_run_of_the_question_and_no_other(
    example: ModuleType,
) -> None:
    stuck = Stuck(example)
    with Server(example.app) as server:
        async with server.client() as client:
            asking = asyncio.create_task(client.post("/replies", json={"text": "stuck"}))
            assert await asyncio.to_thread(stuck.began.wait, 10)
            other = await client.post("/topics", json={"text": "hi"})
            asking.cancel()
            assert await stuck.is_cancelled()
            assert other.json() == {"name": "other"}


def test_the_example_runs_as_a_script_and_ends_cleanly_when_it_is_interrupted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--port", port]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own script
        assert process.stderr is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(log))
        if not found[0].endswith(f":{port}"):
            process.kill()
            pytest.fail(f"{found[0]} instead of port {port}")
        assert httpx.post(f"{found[0]}/replies", json={"text": "hi"}, timeout=30).json()["text"].endswith("hi")
        process.send_signal(signal.SIGINT)
        log += process.communicate(timeout=20)[1]
    assert "Application shutdown complete" in "".join(log)
    assert "Traceback" not in "".join(log).partition("KeyboardInterrupt")[0]


async def test_a_cancel_from_another_loop_takes_effect_although_its_caller_is_cancelled_at_once() -> None:
    async with Flock(home="background") as flock:

        @flock.agent
        async def sleeper(slow: Slow) -> None:
            await asyncio.Event().wait()

        await flock.publish(Slow(number=1), correlation_id="left")
        home = flock.portal.loop
        assert home is not None
        home.call_soon_threadsafe(threading.Event().wait, 0.2)  # what is asked for meanwhile comes together
        cancelling = asyncio.create_task(flock.cancel("left"))
        await asyncio.sleep(0)
        cancelling.cancel()
        await asyncio.wait({cancelling})
        assert (await flock.status("left")).state == "cancelled"
        await flock.cancel("left")
    flock.sync.close()
