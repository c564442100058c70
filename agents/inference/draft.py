"""An answer while it is written: what has come of it is on the log in parts, so that a crash does not lose it.

`Drafts` is a layer. Below it a request adds to the call's draft as its answer comes; here the draft goes into the
task's row once in a while, and, where the step says so, to those who follow the task. After a crash, or a request that
broke off, the draft is there: an endpoint that can goes on from it, and any other begins anew.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from callstream.agents.inference import receipts_state as state
from callstream.agents.inference.call import Call, CallFailed, Draft, Model, Reply
from callstream.agents.inference.receipt import Receipts
from callstream.agents.telling import Tell, teller
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.ownership import LostOwnership
from callstream.streams.wire import LogUnavailable

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class _Told:
    """How much of a draft is on the log. `asked` is the digest of the request that it answers."""

    asked: str
    version: int = 0


class Drafts:
    """Keeps drafts of calls that ask for it. `seconds` lie between two parts; `sleep` waits for them."""

    def __init__(self, receipts: Receipts, seconds: float, sleep: Sleep) -> None:
        self._receipts = receipts
        self._seconds = seconds
        self._sleep = sleep

    def __call__(self, inner: Model) -> Model:
        """The layer."""

        async def drafted(call: Call) -> Reply:
            if not call.stream:
                return await inner(call)
            kept = state.receipt_of(call.cell.value, call.id)
            # A step before may have been taken anew: what had come is no beginning of an answer to another prompt.
            told = _Told(_digest(call))
            call = replace(call, draft=Draft(kept.draft if kept is not None and kept.asked == told.asked else ""))
            keeper = asyncio.create_task(self._keep(call, told, teller() if call.shown else None))
            try:
                return await inner(call)
            except CallFailed:
                keeper.cancel()
                await self._keep_part(call, told, None)
                raise
            finally:
                keeper.cancel()
                [ended] = await asyncio.gather(keeper, return_exceptions=True)
                if isinstance(ended, Exception):
                    log.warning("an answer is not kept while it is written: %s", type(ended).__name__, exc_info=ended)

        return drafted

    async def _keep(self, call: Call, told: _Told, tell: Tell | None) -> None:
        """Keep a part whenever there is more, until cancelled or the task's partition has gone."""
        while True:
            await self._sleep(self._seconds)
            if not await self._keep_part(call, told, tell):
                return

    async def _keep_part(self, call: Call, told: _Told, tell: Tell | None) -> bool:
        """Whether more may be kept."""
        version, text = call.draft.version, call.draft.text
        if version == told.version:
            return True
        number = 0

        def keep(row: Json | None) -> Json | None:
            nonlocal number
            after = state.draft(row, call.id, call.flight, (text, told.asked))
            number = state.parts(after)
            return after

        try:
            await self._receipts.change(call, keep)
            if number == 0:
                return True
            if tell is not None:
                await tell(number, text)
        except (LostOwnership, LogUnavailable) as error:
            # The call goes on: its answer may still be wanted here, and whoever has the task now has what was kept.
            log.debug("no more of an answer is kept while it is written: %s", error)
            return False
        told.version = version
        return True


def _digest(call: Call) -> str:
    """What tells its request from others; nothing for what is no JSON, as it is never sent."""
    try:
        return hashlib.sha256(strict_json.dumps(call.request)).hexdigest()[:32]
    except ValueError:
        return ""
