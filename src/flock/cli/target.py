"""Targets: the Flock or the Study that `file.py`, `package.module` or `package.module:attribute` names."""

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeGuard, TypeVar

from flock.app import Flock
from flock.cli.errors import UsageError
from flock.model.errors import ConfigurationError
from flock.studies.problems import resolve_problem
from flock.studies.study import Study
from flock.studies.study import load_study as read_study

T = TypeVar("T")
_FILES: Final = (".yaml", ".yml", ".json")  # of studies
_BOUND: Final = ("agents", "problems", "evaluators")  # what a module has for a study's names
_SHOWN = 5  # frames of a traceback


def load(target: str) -> Flock:
    """Import a target and give its Flock; raises UsageError that says what is wrong with it."""
    return _loaded(target, Flock)


def load_study(target: str, bind: str | None = None) -> Study:
    """Give the Study that a target or a study file names, with what `bind` has for its names; raises UsageError."""
    _put_on_path(Path.cwd())
    study = _read(target) if _split(target, Study)[0].endswith(_FILES) else _loaded(target, Study)
    return study if bind is None else _bound(study, bind)


def _loaded(target: str, kind: type[T]) -> T:
    place, attribute = _split(target, kind)
    module = _imported(place)
    found = getattr(module, attribute, None)
    if found is None:
        raise UsageError(f"{place} has no {attribute!r}{_suggestion(place, module, kind)}")
    return found if isinstance(found, kind) else _made_by(found, f"{place}:{attribute}", kind)


def _split(target: str, kind: type) -> tuple[str, str]:
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or os.sep in attribute:
        return target, kind.__name__.lower()
    if not attribute.isidentifier():
        raise UsageError(f"{attribute!r} in {target!r} is no name of an attribute")
    return place, attribute


def _imported(place: str) -> ModuleType:
    return _import_file(Path(place)) if _is_file(place) else _import_module(place)


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _suggestion(place: str, module: ModuleType, kind: type) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, kind)]
    if names:
        return f": did you mean {' or '.join(f'{place}:{name}' for name in names)}?"
    return f": name a {kind.__name__}, or a function that returns one, as in TARGET:name"


def _made_by(found: object, name: str, kind: type[T]) -> T:
    """Call a function without arguments for what it makes."""
    noun = f"a {kind.__name__}"
    if not callable(found):
        raise UsageError(f"{name} is {found!r:.60}, not {noun} or a function that returns one")
    if inspect.iscoroutinefunction(found):
        raise UsageError(f"{name} is asynchronous: give a plain function that returns {noun}")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        raise UsageError(f"{name} needs arguments: give a function that takes none") from None
    try:
        made: object = found()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}() failed:\n{_short(error)}") from error
    if not isinstance(made, kind):
        raise UsageError(f"{name}() gave {made!r:.60}, not {noun}")
    return made


# ---- studies


def _read(target: str) -> Study:
    if not target.endswith(_FILES):
        raise UsageError(f"{target!r} names an attribute, and a study file has none: name the file alone")
    if not Path(target).is_file():
        raise UsageError(f"there is no file {target}")
    return read_study(target)


def _bound(study: Study, bind: str) -> Study:
    """Give a study the agents, problems and evaluators that a module has."""
    module = _imported(bind)
    found = {name: _mapping(bind, name, getattr(module, name, None)) for name in _BOUND}
    if not any(found.values()):
        raise UsageError(f"{bind} has nothing to bind: give it mappings named {', '.join(_BOUND)}")
    problems = {name: resolve_problem(name, registry=found["problems"]) for name in found["problems"]}
    return replace(
        study,
        agents={**study.agents, **found["agents"]},
        problems={**study.problems, **problems},
        evaluators={**study.evaluators, **found["evaluators"]},
    )


def _mapping(place: str, name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not _is_mapping(value):
        raise UsageError(f"{place}:{name} is {value!r:.60}, not a mapping of names")
    return {str(key): each for key, each in value.items()}


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


# ---- modules


def _import_file(path: Path) -> ModuleType:
    """Import a file under its stem, whatever else has that name; its folder comes first on the module path."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    path = path.resolve()
    name = path.stem
    taken = sys.modules.get(name)
    if taken is not None and getattr(taken, "__file__", None) == str(path):
        return taken
    if taken is not None:
        raise UsageError(f"{path.name} can't be imported as {name!r}, the name of a module that is in use: rename it")
    _put_on_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python source file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{path.name} can't be imported:\n{_short(error)}") from error
    return module


def _import_module(name: str) -> ModuleType:
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {name!r}") from error
        raise UsageError(f"{name} can't be imported:\n{_short(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name} can't be imported:\n{_short(error)}") from error


def _put_on_path(folder: Path) -> None:
    """Find modules in a folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _short(error: BaseException) -> str:
    """Give the last frames of the user's own code, and the error; a declaration's error speaks for itself."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    shown = traceback.format_list(frames[-1:] if isinstance(error, ConfigurationError) else frames[-_SHOWN:])
    said = traceback.format_exception_only(error)
    if isinstance(error, SystemExit):
        said = [*said, "it ended the process: put what it runs under `if __name__ == '__main__':`\n"]
    return "".join([*shown, *said]).rstrip()


def _is_users(filename: str) -> bool:
    ours = Path(__file__).parent.parent
    return not filename.startswith("<") and filename != importlib.__file__ and ours not in Path(filename).parents
