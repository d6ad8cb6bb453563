"""Targets: the Flock that `file.py`, `package.module` or `package.module:attribute` names."""

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from flock.app import Flock
from flock.cli.errors import UsageError
from flock.model.errors import ConfigurationError

_DEFAULT = "flock"
_SHOWN = 5  # frames of a traceback


def load(target: str) -> Flock:
    """Import a target and give its Flock; raises UsageError that says what is wrong with it."""
    place, attribute = _split(target)
    module = _import_file(Path(place)) if _is_file(place) else _import_module(place)
    found = getattr(module, attribute, None)
    if found is None:
        raise UsageError(f"{place} has no {attribute!r}{_suggestion(place, module)}")
    return found if isinstance(found, Flock) else _made_by(found, f"{place}:{attribute}")


def _split(target: str) -> tuple[str, str]:
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or os.sep in attribute:
        return target, _DEFAULT
    if not attribute.isidentifier():
        raise UsageError(f"{attribute!r} in {target!r} is no name of an attribute")
    return place, attribute


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _suggestion(place: str, module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Flock)]
    if names:
        return f": did you mean {' or '.join(f'{place}:{name}' for name in names)}?"
    return ": name a Flock, or a function that returns one, as in TARGET:name"


def _made_by(found: object, name: str) -> Flock:
    """Call a function without arguments for its Flock."""
    if not callable(found):
        raise UsageError(f"{name} is {found!r:.60}, not a Flock or a function that returns one")
    if inspect.iscoroutinefunction(found):
        raise UsageError(f"{name} is asynchronous: give a plain function that returns a Flock")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        raise UsageError(f"{name} needs arguments: give a function that takes none") from None
    try:
        made: object = found()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}() failed:\n{_short(error)}") from error
    if not isinstance(made, Flock):
        raise UsageError(f"{name}() gave {made!r:.60}, not a Flock")
    return made


def _import_file(path: Path) -> ModuleType:
    """Import a file under its stem, whatever else has that name; its folder comes first on the module path."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    path = path.resolve()
    name = path.stem
    taken = sys.modules.get(name)
    if taken is not None:
        raise UsageError(f"{path.name} can't be imported as {name!r}, the name of a module that is in use: rename it")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
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
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {name!r}") from error
        raise UsageError(f"{name} can't be imported:\n{_short(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name} can't be imported:\n{_short(error)}") from error


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
    return not filename.startswith("<frozen") and filename != importlib.__file__ and ours not in Path(filename).parents
