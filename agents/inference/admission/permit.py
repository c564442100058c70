"""Leave to send one call to one endpoint: what the gate gives, and gets back with what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from callstream.agents.inference.admission.allowance import Amount
from callstream.agents.inference.admission.desk import Desk, Sending
from callstream.agents.inference.admission.purse import Reserved
from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.failures import UNPAID, Kind


class Stale(Exception):
    """The call was not sent, or was turned away: its permit is too old, its share is gone, or the endpoint is full.

    It has to wait anew.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


Settle = Callable[["Permit", Amount | None, Reply | None], None]
"""Takes what the call took (None: it was never sent), and its answer if there is one."""


@dataclass(eq=False, slots=True)
class Permit:
    """Good for one call, for about a second. Whoever holds one gives it back, once.

    `cost` prices tokens of the request, of the answer, and of the cache, in billionths.
    """

    desk: Desk
    sending: Sending
    amount: Amount
    reserved: Reserved
    is_good: Callable[["Permit"], bool]
    settle: Settle
    cost: Callable[[int, int, int], int] = lambda _in, _out, _cached: 0
    sent: bool = False
    _late: bool = False
    _given_back: bool = False

    @property
    def endpoint(self) -> str:
        """Where it may go."""
        return self.desk.options.name

    @property
    def reserved_tokens(self) -> tuple[int, int]:
        """What it was reserved: tokens of the request and of its answer."""
        return self.amount.tokens_in, self.amount.tokens_out

    async def place(self) -> None:
        """Take a place at the endpoint, when nothing else is left to be done. Raises Stale."""
        await self.desk.place(self.sending)
        self.require()

    def require(self) -> None:
        """Raises Stale if the call must not be sent any more. Asked when its last byte is about to leave."""
        if self._late or not self.is_good(self):
            self._late = True
            raise Stale(f"{self.endpoint}: the call was not sent in time after it was admitted")

    def answered(self, reply: Reply) -> None:
        """The call was answered."""
        if self._back():
            self.desk.answered(self.sending)
            used = reply.usage
            money = self.cost(used.tokens_in, used.tokens_out, used.tokens_cached)
            took = Amount(used.tokens_in, used.tokens_out, money)
            self.settle(self, took if took.total else self.amount, reply)

    def refused(self, failure: CallFailed, told: Told | None) -> None:
        """The call failed; `told` is what the endpoint said of its limits. What may have been paid stays spent."""
        if self._back():
            self.desk.failed(self.sending, failure, told)
            took = Amount(0, 0) if failure.kind == Kind.OVERLOADED else self.amount
            may_be_paid = failure.kind not in UNPAID and self.sent
            self.settle(self, took if may_be_paid else replace(took, money=0), None)

    def abandoned(self) -> None:
        """Nothing is known of it. What was sent stays spent."""
        if self._back():
            self.desk.lost(self.sending)
            self.settle(self, self.amount if self.sent else None, None)

    def _back(self) -> bool:
        given, self._given_back = self._given_back, True
        return not given
