"""What each sort of request costs, and that all of it is told once: by the step that sent it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry

from callstream.agents.inference import receipts_state
from callstream.agents.inference.bill import Meter
from callstream.agents.inference.call import Call, CallFailed, Model, Reply
from callstream.agents.inference.endpoint_budgets import EndpointBudgets
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.hedge import LEAST_CALLS, Hedges
from callstream.agents.inference.options import FlightOptions, InferenceOptions, RetryOptions
from callstream.agents.inference.receipt import FROM_RECEIPT, Receipts
from callstream.agents.inference.retry import Sources, retry
from callstream.agents.inference.singleflight import Flights
from callstream.agents.inference.stack import compose
from callstream.agents.inference.timeout import timeout
from callstream.streams.event import Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.money import text_of
from callstream.streams.spend import Spend, SpendKind

OPTIONS = InferenceOptions.model_validate(
    {
        "currency": "EUR",
        "pools": {
            "copywriter": {
                "hedge_after_quantile": 0.95,
                "most_hedged": 0.5,
                "endpoints": [
                    {
                        "name": "a",
                        "base_url": "http://h/v1",
                        "model": "writer",
                        "price_in_per_million": "2",
                        "price_cached_per_million": "0.5",
                        "price_out_per_million": "10",
                    },
                    {"name": "b", "base_url": "http://h/v1", "model": "other", "price_out_per_million": "1"},
                ],
            }
        },
    }
)
ANSWER = Reply("A mug.", usage=Usage(endpoint="a", calls=1, tokens_in=1_000, tokens_out=100, tokens_cached=400))
PREFIX = "4:acme:mug-1/3/"


@dataclass(eq=False)
class Leave:
    """Leave for a call that was reserved 500 tokens and 200 for its answer."""

    sent: bool = False
    reserved_tokens: tuple[int, int] = (500, 200)

    async def place(self) -> None:
        """At once."""

    def require(self) -> None:
        """It may."""


class Bench:
    """The layers that count, over a script of answers and failures; `asyncio.CancelledError` waits to be cut."""

    def __init__(self, script: Sequence[Reply | CallFailed | type[BaseException]], run: str = "run-a") -> None:
        self.script = list(script)
        self.sent = 0
        self.meter = Meter(OPTIONS, lambda: 1_000.0)
        receipts = Receipts(lambda: 10.0, self.meter)
        pools, registry = dict(OPTIONS.pools), CollectorRegistry()
        budgets = EndpointBudgets(OPTIONS.retry.budget, pools, lambda: 0.0, registry)
        self.flights = Flights(FlightOptions(), run)
        hedges = Hedges(pools, registry, lambda: 0.0)
        layers = (
            receipts.remember,
            self.flights,
            self.meter.charge,
            hedges.race,
            retry(RetryOptions(), Sources(lambda: 1_000.0, lambda: 0.0, asyncio.sleep), budgets),
            self._admitted,
            timeout(lambda: 1_000.0),
            receipts.announce,
            hedges.observe,
            self.meter.measure,
        )
        self.model: Model = compose(layers, self._send)

    def _admitted(self, inner: Model) -> Model:
        async def admitted(call: Call) -> Reply:
            endpoint = next((name for name in ("a", "b") if name not in call.tried), "a")
            return await inner(replace(call, endpoint=endpoint, permit=Leave()))

        return admitted

    async def _send(self, call: Call) -> Reply:
        entry = self.script[min(self.sent, len(self.script) - 1)]
        self.sent += 1
        assert call.permit is not None
        call.permit.sent = not (isinstance(entry, CallFailed) and "never sent" in entry.message)
        if isinstance(entry, type):
            await asyncio.Event().wait()
        if isinstance(entry, CallFailed):
            raise entry
        assert isinstance(entry, Reply)
        return replace(entry, usage=entry.usage.model_copy(update={"endpoint": call.endpoint}))


def told(cell: MemoryCell, round_: str = "0.0") -> list[tuple[str, str, int, str, bool]]:
    """Kind, endpoint, calls, cost and whether it is estimated, of all that a step has spent."""
    spends = receipts_state.spent_by(cell.value, round_)
    assert all(one.currency == "EUR" for one in spends)
    return [(str(one.kind), one.endpoint, one.calls, text_of(one.cost), one.estimated) for one in spends]


def call(cell: MemoryCell, **changes: object) -> Call:
    return a_call(cell=cell, round="0.0", **changes)


PAID = ("answer", "a", 1, "0.0024", False)
"""600 tokens at 2, 400 at 0.5 and 100 at 10 a million."""
RESERVED = "0.003"
"""500 tokens at 2 and 200 at 10 a million."""


async def test_an_answer_costs_what_its_usage_says() -> None:
    cell = MemoryCell()
    await Bench([ANSWER]).model(call(cell))
    assert told(cell) == [PAID]


async def test_an_answer_without_usage_costs_what_was_reserved_and_says_so() -> None:
    cell = MemoryCell()
    await Bench([Reply("A mug.")]).model(call(cell))
    assert told(cell) == [("answer", "a", 1, RESERVED, True)]


async def test_an_answer_to_being_asked_again_is_a_repair() -> None:
    cell = MemoryCell()
    await Bench([ANSWER]).model(call(cell, repair=True))
    assert told(cell) == [("repair", *PAID[1:])]


@pytest.mark.parametrize(
    ("kind", "cost", "estimated"),
    [
        (Kind.UNAVAILABLE, "0", False),
        (Kind.REFUSED, "0", False),
        (Kind.CONTEXT_TOO_LONG, "0", False),
        (Kind.BROKEN_REPLY, RESERVED, True),
        (Kind.TIMEOUT, RESERVED, True),
        (Kind.UNREACHABLE, RESERVED, True),
        (Kind.REFUSED_BY_POLICY, RESERVED, True),
    ],
)
async def test_a_failed_request_costs_what_was_reserved_unless_the_endpoint_said_that_it_failed(
    kind: Kind, cost: str, estimated: bool
) -> None:
    cell = MemoryCell()
    with pytest.raises(CallFailed):
        await Bench([CallFailed(str(kind), "no", retryable=False)]).model(call(cell))
    assert told(cell) == [("failed", "a", 1, cost, estimated)]


@pytest.mark.parametrize("failure", [failed(Kind.OVERLOADED, "later"), failed(Kind.UNREACHABLE, "never sent")])
async def test_what_was_turned_away_or_never_left_costs_nothing(failure: CallFailed) -> None:
    cell = MemoryCell()
    with pytest.raises(CallFailed):
        await Bench([CallFailed(failure.kind, failure.message, retryable=False)]).model(call(cell))
    assert told(cell) == []


async def test_a_retry_after_a_failure_counts_both() -> None:
    cell = MemoryCell()
    await Bench([failed(Kind.BROKEN_REPLY, "no"), ANSWER]).model(call(cell))
    assert told(cell) == [("failed", "a", 1, RESERVED, True), PAID]


async def test_a_later_attempt_of_the_step_goes_on_counting() -> None:
    cell = MemoryCell()
    with pytest.raises(CallFailed):
        await Bench([CallFailed("timeout", "no", retryable=False)]).model(call(cell))
    await Bench([ANSWER]).model(call(cell))
    assert told(cell) == [("failed", "a", 1, RESERVED, True), PAID]


async def test_a_request_that_took_too_long_has_failed() -> None:
    cell = MemoryCell()
    with pytest.raises(CallFailed, match="passed during the call"):
        await Bench([asyncio.CancelledError]).model(call(cell, timeout_seconds=0.01, deadline=1_000.005))
    assert told(cell) == [("failed", "a", 1, RESERVED, True)]


async def test_the_slower_of_two_requests_is_counted_as_that() -> None:
    bench = Bench([*[ANSWER] * LEAST_CALLS, asyncio.CancelledError, ANSWER])
    for number in range(LEAST_CALLS):
        await bench.model(call(MemoryCell(), id=f"{PREFIX}{number}"))
    cell = MemoryCell()
    await bench.model(call(cell))
    # 100 tokens at 1 a million
    assert sorted(told(cell)) == [("answer", "b", 1, "0.0001", False), ("hedge-loser", "a", 1, RESERVED, True)]


async def test_an_answer_from_a_receipt_is_not_paid_twice() -> None:
    cell = MemoryCell()
    await Bench([ANSWER]).model(call(cell))
    again = await Bench([failed(Kind.REFUSED, "called")]).model(call(cell))
    assert FROM_RECEIPT in again.notes
    assert told(cell) == [PAID]


async def test_a_later_round_that_uses_an_answer_tells_nothing_of_what_it_cost() -> None:
    cell = MemoryCell()
    await Bench([ANSWER]).model(call(cell))
    await Bench([failed(Kind.REFUSED, "called")]).model(replace(call(cell), round="1.0"))
    assert (told(cell), told(cell, "1.0")) == ([PAID], [])


async def test_a_later_round_tells_of_its_own_requests_alone() -> None:
    cell = MemoryCell()
    with pytest.raises(CallFailed):
        await Bench([CallFailed("timeout", "no", retryable=False)]).model(call(cell))
    await Bench([ANSWER]).model(replace(call(cell), round="1.0"))
    assert told(cell, "1.0") == [PAID]


async def test_a_call_that_is_made_again_as_another_counts_what_it_cost_itself() -> None:
    cell, bench = MemoryCell(), Bench([CallFailed("timeout", "no", retryable=False), ANSWER])
    first = call(cell)
    with pytest.raises(CallFailed):
        await bench.model(first)
    await bench.model(replace(first, id="any other"))
    assert told(cell) == [("failed", "a", 1, RESERVED, True), PAID]


async def test_two_who_wait_for_one_call_pay_once() -> None:
    cell = MemoryCell()
    bench = Bench([ANSWER])
    await asyncio.gather(bench.model(call(cell)), bench.model(call(cell)))
    assert (bench.sent, told(cell)) == (1, [PAID])


async def test_a_call_that_was_cut_costs_what_was_reserved() -> None:
    cell = MemoryCell()
    bench = Bench([asyncio.CancelledError])
    asked = asyncio.ensure_future(bench.model(call(cell)))
    while not bench.sent:  # noqa: ASYNC110  # there is nothing else to wait for
        await asyncio.sleep(0)
    assert told(cell) == [("cancelled", "a", 1, RESERVED, True)]
    await bench.flights.close()
    with pytest.raises(CallFailed):
        await asked
    assert told(cell) == [("cancelled", "a", 1, RESERVED, True)]


async def test_a_request_of_a_worker_that_died_is_lost_and_counted() -> None:
    cell = MemoryCell()
    died = Bench([failed(Kind.BROKEN_REPLY, "no"), asyncio.CancelledError])
    asked = asyncio.ensure_future(died.model(call(cell)))
    while died.sent < 2:  # noqa: ASYNC110  # there is nothing else to wait for
        await asyncio.sleep(0)
    left = MemoryCell(cell.value)
    await Bench([ANSWER], "run-b").model(call(left))
    assert told(left) == [("failed", "a", 1, RESERVED, True), ("lost", "a", 1, RESERVED, True), PAID]
    asked.cancel()
    await died.flights.close()


async def test_what_receipts_cost_that_the_row_has_no_room_for_is_kept() -> None:
    cell, bench = MemoryCell(), Bench([ANSWER])
    for number in range(40):
        await bench.model(call(cell, id=f"{PREFIX}call-{number}"))
    assert told(cell) == [("answer", "a", 40, "0.096", False)]


async def test_a_price_that_changes_holds_from_then_on() -> None:
    cell, bench = MemoryCell(), Bench([ANSWER])
    await bench.model(call(cell))
    bench.meter.reconfigured(InferenceOptions())
    await bench.model(call(cell, id=f"{PREFIX}call-2"))
    spends = receipts_state.spent_by(cell.value, "0.0")
    assert [(text_of(one.cost), one.currency) for one in spends] == [("0.0024", "EUR"), ("0", "USD")]


def test_what_a_replay_takes_over_cost_it_nothing() -> None:
    spend = Spend(kind=SpendKind.ANSWER, cost=Decimal(1))
    row = receipts_state.answer(None, f"{PREFIX}call-1", replace(ANSWER, spends=(spend,)), "0.0")
    assert receipts_state.spent_by(row, "0.0") == (spend,)
    child = receipts_state.inherited(row, "mug-1", b"4:acme:mug-1", b"4:acme:mug-1~r")
    assert receipts_state.spent_by(child, "0.0") == ()
