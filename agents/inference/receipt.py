"""Receipts on the log, so that no answered call is paid twice: two layers, because a receipt is written twice.

`remember` stands outermost: it answers from an answered receipt and writes the answer down. `announce` stands
innermost, behind every wait: it puts the started receipt on the log right before the request leaves. So a receipt
says "started" only for a request that may really have been sent, and a worker that lost the task's partition while
the call waited is stopped by its own row before it pays.

Rows are read and saved without an await between: two calls of one task at once don't overwrite each other.
"""

from collections.abc import Callable
from dataclasses import replace

from callstream.agents.inference import receipts_state as receipts
from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.receipts_state import Receipt, State

FROM_RECEIPT = "answered from the receipt, without a call"


def remember() -> Layer:
    """Answer from the receipt if there is an answer; else call, and keep the answer before it is given on."""

    def layer(inner: Model) -> Model:
        async def answered(call: Call) -> Reply:
            kept = receipts.receipt_of(call.cell.value, call.id)
            known = receipts.reply_in(kept) if kept is not None else None
            if known is not None:
                return replace(known, notes=(*known.notes, FROM_RECEIPT))
            try:
                reply = await inner(call)
            except CallFailed:
                failed = receipts.fail(call.cell.value, call.id)
                if failed is not None:
                    await call.cell.save(failed)
                raise
            row = call.cell.value
            reply = _counted(reply, receipts.receipt_of(row, call.id))
            await call.cell.save(receipts.answer(row, call.id, reply))
            return reply

        return answered

    return layer


def announce(clock: Callable[[], float]) -> Layer:
    """Put the started receipt on the log, then call. What this flight has announced is not announced again."""

    def layer(inner: Model) -> Model:
        async def announced(call: Call) -> Reply:
            started = Receipt(state=State.STARTED, started=clock(), flight=call.flight, endpoint=call.endpoint or "")
            before = call.cell.value
            after = receipts.start(before, call.id, started)
            if after != before:
                await call.cell.save(after)
            return await inner(call)

        return announced

    return layer


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
    times = "once" if receipt.repeats == 1 else f"{receipt.repeats} times"
    note = f"repeated {times}: an earlier run ended between sending the request and keeping its answer"
    return replace(reply, usage=usage, notes=(*reply.notes, note))
