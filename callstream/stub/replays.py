"""Answers kept by Idempotency-Key, for a server that replays them."""

import asyncio
from collections import OrderedDict

from callstream.stub.work import Work


class Replays:
    """The last `capacity` answers; a repeat that comes while the first call still runs waits for it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[str, asyncio.Future[Work | None]] = OrderedDict()

    async def earlier(self, call_id: str) -> Work | None:
        """The paid answer of an earlier call; None if there was none, or if all failed unpaid."""
        while (answer := self._answers.get(call_id)) is not None:
            work = await asyncio.shield(answer)
            if work is not None:
                return work
        return None

    def begin(self, call_id: str) -> None:
        """A call that may become paid has begun."""
        self._answers[call_id] = asyncio.get_running_loop().create_future()
        while len(self._answers) > self._capacity:
            oldest = self._answers.popitem(last=False)[1]
            if not oldest.done():
                oldest.set_result(None)

    def end(self, call_id: str, work: Work | None) -> None:
        """The call has ended with a paid answer, or with None; only the first word counts."""
        answer = self._answers.get(call_id)
        if answer is None or answer.done():
            return
        answer.set_result(work)
        if work is None:
            del self._answers[call_id]
