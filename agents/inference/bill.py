"""What each request costs, counted where it is sent: two layers, since a request may end without an answer.

`measure` stands innermost and sees every request: what it took where the endpoint says so, else what was reserved for
it, marked as an estimate. `charge` stands where a whole call is seen, and gives the sum on with its answer or failure.
"""

from collections.abc import Callable
from dataclasses import replace

from callstream.agents.inference.call import Bill, Call, CallFailed, Model, Reply
from callstream.agents.inference.failures import UNPAID, Kind
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.price import Price, prices_of
from callstream.streams.spend import Spend, SpendKind


class Meter:
    """The two layers, `charge` and `measure`. `clock` gives epoch seconds."""

    def __init__(self, options: InferenceOptions, clock: Callable[[], float]) -> None:
        self._prices = prices_of(options)
        self._clock = clock

    def reconfigured(self, options: InferenceOptions) -> None:
        """These prices from now on; what was counted stays as it is."""
        self._prices = prices_of(options)

    def estimate(self, call: Call, kind: SpendKind = SpendKind.CANCELLED) -> Spend:
        """One request of a call whose endpoint is chosen, by what was reserved for it."""
        tokens = call.permit.reserved_tokens if call.permit is not None else (0, 0)
        return self._spend(call, kind, *tokens).model_copy(update={"estimated": True})

    def charge(self, inner: Model) -> Model:
        """Give on with a call's end what it cost."""

        async def charged(call: Call) -> Reply:
            # Of its own: who asks twice with one call is not to pay twice for what the first time cost.
            call = replace(call, bill=Bill())
            try:
                reply = await inner(call)
            except CallFailed as failure:
                failure.spends = call.bill.close(call.repair)
                raise
            return replace(reply, spends=call.bill.close(call.repair))

        return charged

    def measure(self, inner: Model) -> Model:
        """Count a request. One that never left costs nothing, and neither does one that is turned away with 429."""

        async def measured(call: Call) -> Reply:
            try:
                reply = await inner(call)
            except CallFailed as failure:
                if failure.kind != Kind.OVERLOADED:
                    self._count(call, SpendKind.FAILED, failure.kind not in UNPAID)
                raise
            except BaseException:
                self._count(call, SpendKind.CANCELLED)
                raise
            call.bill.add(self._answered(call, reply), call.second)
            return reply

        return measured

    def _count(self, call: Call, kind: SpendKind, may_be_paid: bool = True) -> None:
        if call.permit is not None and not call.permit.sent:
            return
        call.bill.add(self.estimate(call, kind) if may_be_paid else self._spend(call, kind, 0, 0), call.second)

    def _answered(self, call: Call, reply: Reply) -> Spend:
        usage = reply.usage
        if usage.tokens_in or usage.tokens_out or call.api == "moderations":
            tokens = usage.tokens_in, usage.tokens_out, usage.tokens_cached
            return self._spend(call, SpendKind.ANSWER, *tokens)
        return self.estimate(call, SpendKind.ANSWER)

    def _spend(self, call: Call, kind: SpendKind, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> Spend:
        endpoint = call.endpoint or ""
        price = self._prices.get(endpoint, Price())
        return Spend(
            kind=kind,
            endpoint=endpoint,
            model=price.model,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            tokens_cached=tokens_cached,
            cost=price.cost(tokens_in, tokens_out, tokens_cached),
            currency=price.currency,
            at=self._clock(),
        )
