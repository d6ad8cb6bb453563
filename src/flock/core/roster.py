"""The agents of a Flock as they come and go, and the types that they make known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter

from pydantic import BaseModel, ValidationError

from flock.core.agent import Agent, counters
from flock.core.match import Entry, Route, entries_of, route
from flock.model.errors import ConfigurationError, PublishError
from flock.model.evaluation import Failure, group_types
from flock.model.payload import find_loaded, type_name


class Roster:
    """Who is here. Routes are made per class when first needed and forgotten when agents come or go."""

    def __init__(self) -> None:
        """Start with nobody."""
        self.agents: dict[str, Agent] = {}
        self.limits: dict[str, int] = {}  # how many activations of each agent may run here now
        self.types = Catalog()
        self._entries: dict[type[BaseModel], list[tuple[int, Entry]]] = {}
        self.routes: dict[type[BaseModel], Route] = {}
        self._count = 0

    def add(self, agent: Agent) -> None:
        """Let an agent in; raises ConfigurationError when its name is taken."""
        if agent.name in self.agents:
            raise ConfigurationError(f"there is an agent named {agent.name!r} already")
        self.agents[agent.name] = agent
        self.limits[agent.name] = agent.max_concurrency
        for entry in entries_of(agent):
            self._count += 1
            self._entries.setdefault(entry.kind, []).append((self._count, entry))
        for subscription in agent.subscriptions:
            for kind in (*subscription.types, *(tally.type for tally in counters(subscription))):
                self.types.know(kind)
        for kind in group_types(agent.outputs):
            self.types.know(kind)
        self.routes.clear()

    def remove(self, name: str) -> Agent:
        """Let an agent go; what waits for it stays. Raises ConfigurationError for an unknown name."""
        agent = self.get(name)
        del self.agents[name], self.limits[name]
        for kind, entries in list(self._entries.items()):
            self._entries[kind] = [pair for pair in entries if pair[1].target.agent != name]
        self.routes.clear()
        return agent

    def get(self, name: str) -> Agent:
        """Give an agent by name; raises ConfigurationError that lists who is here."""
        try:
            return self.agents[name]
        except KeyError:
            known = ", ".join(sorted(self.agents)) or "none"
            raise ConfigurationError(f"there is no agent named {name!r}; known agents: {known}") from None

    def route(self, cls: type[BaseModel]) -> Route:
        """Give the ways that artifacts of a class may take."""
        found = self.routes.get(cls)
        if found is None:
            pairs = [pair for base in cls.__mro__ for pair in self._entries.get(base, ())]
            if not pairs:
                self._refuse_namesake(cls)
            found = self.routes[cls] = route(cls, [entry for _, entry in sorted(pairs, key=itemgetter(0))])
            self.types.know(cls)
        return found

    def _refuse_namesake(self, cls: type[BaseModel]) -> None:
        """Raise PublishError for a class that was defined again: agents consume the one from before, and not this."""
        name = type_name(cls)
        entries = [entry for kind, pairs in self._entries.items() if type_name(kind) == name for _, entry in pairs]
        if entries:
            agents = ", ".join(sorted({entry.target.agent for entry in entries}))
            raise PublishError(
                f"{cls.__name__} was defined again, and {agents} consumes the class from before: remove such agents "
                "and declare them again, or keep the class in a module"
            )


class Catalog:
    """The payload types that a Flock knows by name: those that agents declare and those that were published."""

    def __init__(self) -> None:
        """Know failures."""
        self._types: dict[str, type[BaseModel]] = {}
        self._simple: dict[str, dict[str, type[BaseModel]]] = {}
        self.know(Failure)

    def know(self, cls: type[BaseModel]) -> str:
        """Remember a type and give its stable name; of two classes with one name the newer counts."""
        name = type_name(cls)
        if self._types.get(name) is not cls:
            self._types[name] = cls
            self._simple.setdefault(cls.__qualname__, {})[name] = cls
            self._simple.setdefault(cls.__name__, {})[name] = cls
        return name

    def find(self, name: str) -> type[BaseModel] | None:
        """Give the class of a stable name: one that is known, or one of a module that is loaded."""
        return self._types.get(name) or find_loaded(name)

    def meet(self, names: Iterable[str]) -> None:
        """Remember the types of what is on the board, so far as the program has them."""
        for cls in map(self.find, names):
            if cls is not None:
                self.know(cls)

    def names_of(self, cls: type[BaseModel]) -> frozenset[str]:
        """Give the names of all known types that are this one or derive from it."""
        self.know(cls)
        return frozenset(name for name, kind in self._types.items() if issubclass(kind, cls))

    def resolve(self, name: object) -> type[BaseModel]:
        """Find a type by its stable or simple name; raises PublishError that names the known or the candidates."""
        if isinstance(name, str) and name in self._types:
            return self._types[name]
        candidates = self._simple.get(name, {}) if isinstance(name, str) else {}
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if candidates:
            message = f"type {name!r} is ambiguous: use one of {', '.join(sorted(candidates))}"
        else:
            message = f"unknown type {name!r}; known types: {', '.join(sorted(self._types))}"
        raise PublishError(message)

    def load(self, data: Mapping[str, object]) -> BaseModel:
        """Validate a dict with `type` (flat, or nested under `payload`); raises PublishError."""
        if "type" not in data:
            message = f"a dict to publish needs a 'type'; known types: {', '.join(sorted(self._types))}"
            raise PublishError(message)
        cls = self.resolve(data["type"])
        nested = set(data) == {"type", "payload"}
        payload = data["payload"] if nested else {key: value for key, value in data.items() if key != "type"}
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise PublishError(f"invalid {cls.__name__}: {error}") from error
