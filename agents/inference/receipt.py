"""Receipts on the log, so that no answered call is paid twice: two layers, because a receipt is written twice.

`remember` stands outermost: it answers from an answered receipt and writes the answer down. `announce` stands
innermost, behind every wait: it puts the started receipt on the log right before the request leaves. So a receipt
says "started" only for a request that may really have been sent, and a worker that lost the task's partition while
the call waited is stopped by its own row before it pays.
"""

from collections.abc import Callable
from dataclasses import replace

from callstream.agents.inference import receipts_state as state
from callstream.agents.inference.bill import Meter
from callstream.agents.inference.call import Call, CallFailed, Model, Reply, times
from callstream.agents.inference.receipts_state import Receipt, State
from callstream.agents.turns import Turns
from callstream.streams.event import Json

FROM_RECEIPT = "answered from the receipt, without a call"

Change = Callable[[Json | None], Json | None]


class Receipts:
    """The two layers, `remember` and `announce`. They take turns at a task's row: its calls may run side by side."""

    def __init__(self, clock: Callable[[], float], meter: Meter | None = None) -> None:
        self._clock = clock
        self._meter = meter
        self._turns = Turns()

    def remember(self, inner: Model) -> Model:
        """Answer from the receipt if there is an answer; else call, and keep the answer before it is given on."""

        async def answered(call: Call) -> Reply:
            kept = state.receipt_of(call.cell.value, call.id)
            known = state.reply_in(kept) if kept is not None else None
            if known is not None:
                return replace(known, notes=(*known.notes, FROM_RECEIPT))
            try:
                reply = await inner(call)
            except CallFailed as failure:
                spends = failure.spends
                await self.change(call, lambda row: state.fail(row, call.id, spends))
                raise
            reply = _counted(reply, state.receipt_of(call.cell.value, call.id))
            await self.change(call, lambda row: state.answer(row, call.id, reply, call.round))
            return reply

        return answered

    def announce(self, inner: Model) -> Model:
        """Put the started receipt on the log, then call. What this flight has announced is not announced again."""

        async def announced(call: Call) -> Reply:
            started = Receipt(
                state=State.STARTED,
                started=self._clock(),
                flight=call.flight,
                endpoint=call.endpoint or "",
                requests=2 if call.second else 1,
                round=call.round,
                so_far=call.bill.whole,
                reserved=self._meter.estimate(call) if self._meter is not None else None,
            )
            await self.change(call, lambda row: state.start(row, call.id, started))
            return await inner(call)

        return announced

    async def change(self, call: Call, change: Change) -> None:
        """Save what becomes of the row, if anything."""
        async with self._turns.turn(f"{call.tenant}:{call.task}".encode()):
            before = call.cell.value
            after = change(before)
            if after is not None and after != before:
                await call.cell.save(after)


def _counted(reply: Reply, receipt: Receipt | None) -> Reply:
    """The reply with the requests of earlier runs, which may have been paid, in its usage."""
    if receipt is None or not receipt.repeats:
        return reply
    usage = reply.usage.model_copy(
        update={
            "repeated": reply.usage.repeated + receipt.repeats,
            "calls": reply.usage.calls + receipt.repeats,
        }
    )
    note = f"repeated {times(receipt.repeats)}: an earlier run ended between sending the request and keeping its answer"
    return replace(reply, usage=usage, notes=(*reply.notes, note))
