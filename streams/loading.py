"""Chains from where their authors keep them: `package.module:attribute` or `path/to/file.py:attribute`."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from callstream.streams.chain import Chain, Chains
from callstream.streams.foreseen import Foreseen

FILE_MODULE_PREFIX = "callstream_chain_"


class BadReference(Foreseen, ValueError):
    """A chain that could not be loaded; the message says which reference, why and, for its own errors, where."""


def load_chains(references: Sequence[str]) -> Chains:
    """The chains of all references; an attribute may be one Chain or a list or tuple of them. Raises BadReference.

    A file is loaded once for each process, under a name made of its path, so that what it defines can be pickled for
    another process that has loaded it too. It may import the modules beside it.
    """
    chains = [chain for reference in references for chain in _load(reference)]
    try:
        return Chains(chains)
    except ValueError as error:
        raise BadReference(f"{', '.join(references)}: {error}") from None


def module_name(path: Path) -> str:
    """The name that a file's module has in `sys.modules`: the same for the same path."""
    path = path.resolve()
    return f"{FILE_MODULE_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _load(reference: str) -> Sequence[Chain]:
    where, separator, attribute = reference.rpartition(":")
    if not separator or not where or not attribute.isidentifier():
        raise BadReference(f"{reference!r} names no chain; write path/to/file.py:attribute or package.module:attribute")
    module = _file(reference, Path(where)) if where.endswith(".py") else _module(reference, where)
    if not hasattr(module, attribute):
        known = ", ".join(sorted(name for name, value in vars(module).items() if isinstance(value, Chain))) or "none"
        raise BadReference(f"{reference!r}: {where} has no {attribute!r}; chains in it: {known}")
    value: Any = getattr(module, attribute)
    if isinstance(value, Chain):
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(each, Chain) for each in value):
        return value
    raise BadReference(f"{reference!r}: {attribute} is {type(value).__name__}, not a Chain")


def _module(reference: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise BadReference(f"{reference!r}: there is no module {error.name!r}") from None
        raise BadReference(f"{reference!r}: {_told(error)}") from error
    except Exception as error:
        raise BadReference(f"{reference!r}: {_told(error)}") from error


def _file(reference: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise BadReference(f"{reference!r}: there is no file {path.resolve()}")
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise BadReference(f"{reference!r}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise BadReference(f"{reference!r}: {_told(error, path.resolve())}") from error
    return module


def _told(error: Exception, path: Path | None = None) -> str:
    """The error in one line, with the deepest line of the file (or of any) that led to it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}: {type(error).__name__}: {error}"
