"""A worker that kills itself at a chosen point of its code: `python -m tests.faults.trap ARGS` is `callstream ARGS`.

Each function that a point names is wrapped before the worker is built. The wraps do nothing until the file `armed`
stands in the working folder; it says which point is meant, and at which of its hits from then on. When that comes, the
process writes down where it is, takes the file away, so that its next life is an undisturbed one, and sends itself
SIGKILL.

Each life is a process of its own, forked from one that has read the code and done nothing yet: to read it takes longer
than all else of a start. That one goes on after a SIGKILL and ends with its child's exit code after any other end.
"""

import asyncio
import functools
import importlib
import inspect
import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from callstream.cli import main
from tests.faults.points import POINTS, Moment, Point

ARMED, KILLED, LIVES = "armed", "killed.json", "lives"
DURING_SECONDS = 0.04
"""After a function has begun: its request has left and its answer is not here yet."""


def arm(folder: Path, point: str, hit: int) -> None:
    """Have the worker of that folder die at the `hit`-th time from now that it comes to that point."""
    (folder / KILLED).unlink(missing_ok=True)
    written = folder / f"{ARMED}.new"
    written.write_text(json.dumps([point, hit, time.time()]))
    written.rename(folder / ARMED)


def disarm(folder: Path) -> None:
    """Have it live on."""
    (folder / ARMED).unlink(missing_ok=True)


def killed(folder: Path) -> dict[str, Any] | None:
    """What the worker wrote down as it died: `point`, `hit`, `at` (epoch seconds) and `pid`; None if it did not."""
    try:
        return dict(json.loads((folder / KILLED).read_bytes()))
    except FileNotFoundError:
        return None


class Trap:
    """The one point that is meant, if any, and how often it was come to since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._armed: list[Any] = []
        self._hits = 0
        # The consumer's own thread comes by, too.
        self._lock = threading.Lock()

    def is_hit(self, point: Point, arguments: Mapping[str, Any]) -> bool:
        """Whether this is the time to die."""
        try:
            armed = json.loads((self._folder / ARMED).read_bytes())
        except FileNotFoundError:
            return False
        if armed[0] != point.name or not point.of(arguments):
            return False
        with self._lock:
            if armed != self._armed:
                self._armed, self._hits = armed, 0
            self._hits += 1
            return bool(self._hits == armed[1])

    def die(self) -> None:
        """Write down where, and die."""
        point, hit, _ = self._armed
        told = {"point": point, "hit": hit, "at": time.time(), "pid": os.getpid()}

        with (self._folder / KILLED).open("w") as file:
            file.write(json.dumps(told))
            file.flush()
            os.fsync(file.fileno())
        (self._folder / ARMED).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def found(target: str) -> tuple[Any, str, Callable[..., Any]]:
    """The class or module that holds a target (`module:Class.method`), its name there, and the function itself.

    Raises ImportError, AttributeError, and TypeError for what is no function.
    """
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    holder: Any = importlib.import_module(module)
    for part in outer:
        holder = getattr(holder, part)
    function = getattr(holder, name)
    if not inspect.isfunction(function):
        raise TypeError(f"{target} is {type(function).__name__}, no function")
    return holder, name, function


def set_traps(points: Iterable[Point], trap: Trap) -> None:
    """Wrap what the points name, each function once."""
    by_target: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_target[point.target].append(point)
    for target, here in by_target.items():
        holder, name, function = found(target)
        setattr(holder, name, _wrapped(function, here, trap))


def _wrapped(function: Callable[..., Any], points: list[Point], trap: Trap) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Point | None:
        """Dies before; gives the point that is meant after."""
        arguments = signature.bind(*args, **kwargs).arguments
        point = next((one for one in points if trap.is_hit(one, arguments)), None)
        if point is None or point.moment is Moment.AFTER:
            return point
        if point.moment is Moment.BEFORE:
            trap.die()
        else:
            asyncio.get_running_loop().call_later(DURING_SECONDS, trap.die)
        return None

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            point = begins(args, kwargs)
            result = await function(*args, **kwargs)
            if point is not None:
                trap.die()
            return result

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        point = begins(args, kwargs)
        result = function(*args, **kwargs)
        if point is not None:
            trap.die()
        return result

    return called


def live() -> int:
    """One life, in a process of its own; gives its exit code, negative for a signal."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        main()
        raise SystemExit(0)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def lives(folder: Path) -> int:
    """How many lives of that folder's worker have ended by SIGKILL at a point."""
    file = folder / LIVES
    return len(file.read_bytes()) if file.exists() else 0


if __name__ == "__main__":
    set_traps(POINTS, Trap(Path.cwd()))
    while (code := live()) == -signal.SIGKILL:
        with Path(LIVES).open("a") as told:
            told.write(".")
    raise SystemExit(code)
