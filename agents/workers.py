"""The processes that do CPU-heavy work for steps: started at the first work, anew when one has died."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from threading import Lock
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Workers(Executor):
    """A process pool that outlives the death of its processes.

    The standard pool refuses all further work once one of its processes was killed (out of memory, a crash in a
    decoder): every task after that would fail for the fault of one. Here the work that was under way fails with
    BrokenProcessPool and the next piece finds new processes. `processes` are spawned, which is safe beside threads.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def submit(self, fn: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """Hand over one call of a function that can be imported. Raises RuntimeError after `shutdown`."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker processes were shut down")
            if self._pool is not None:
                try:
                    return self._pool.submit(fn, *args, **kwargs)
                except BrokenProcessPool:
                    self._pool.shutdown(wait=False)
            self._pool = ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"))
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with `wait` not before their work is done."""
        with self._lock:
            pool: Any = self._pool
            self._closed, self._pool = True, None
        if pool is not None:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)
