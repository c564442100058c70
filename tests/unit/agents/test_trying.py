import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from decimal import Decimal
from typing import Any

import pytest

from callstream.agents.fakes import FakePorts, deliver
from callstream.agents.inference.call import Reply
from callstream.agents.inference.receipts_state import answer
from callstream.agents.masking import Mask
from callstream.agents.payer import round_of
from callstream.agents.ports import Policy
from callstream.agents.spent import waiting
from callstream.agents.trying import Trying
from callstream.streams.chain import Act, Attempts, Cell
from callstream.streams.errorclass import class_of
from callstream.streams.event import Event, Failure, Hop
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome, Retry
from callstream.streams.retry_budget import BudgetOptions, Budgets
from callstream.streams.spend import Spend, SpendKind
from callstream.streams.wire import Record, decode
from tests.support.events import CHAINS, an_event

AT_ONCE = Attempts(most=3, first_pause_seconds=0.0, longest_pause_seconds=0.0)
DOWN = Retry(Failure(kind="unreachable", message="nobody there"))
PLENTY = BudgetOptions(share=10, a_second=1_000)


class Script:
    """A role that does what a test says, and counts how often."""

    service = "prepare"
    stateful = False

    def __init__(self, act: Act, attempts: Attempts = AT_ONCE, **policy: Any) -> None:
        self._act = act
        self._policy = Policy("facts", attempts, keeps_deadline=True, **policy)
        self.acts = 0

    def policy(self, event: Event) -> Policy:
        """The same for every event."""
        return self._policy

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Count, and do it."""
        self.acts += 1
        return await self._act(event, state)


def scripted(outcomes: Iterable[Outcome | BaseException]) -> Act:
    left: Iterator[Outcome | BaseException] = iter(outcomes)

    async def act(event: Event, state: Cell) -> Outcome:
        outcome = next(left)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return act


async def always_down(event: Event, state: Cell) -> Outcome:
    return DOWN


async def tried(role: Script, *events: Event, options: BudgetOptions = PLENTY, mask: Mask | None = None) -> Any:
    """Try all events at once, with one budget; gives the first record of each, and who tried."""
    trying = Trying(role, FakePorts(), CHAINS)
    trying.budgets = Budgets(lambda: options)
    trying.mask = mask or Mask()
    deliveries = deliver(events, "prepare")
    pairs = zip(events, deliveries, strict=True)
    found: list[list[Record]] = await asyncio.gather(*(trying.records(event, one) for event, one in pairs))
    return [decode(records[0].value, records[0].headers) for records in found], trying


def tasks(count: int, **changes: Any) -> list[Event]:
    return [an_event(task=f"t-{number}", **changes) for number in range(count)]


def failure_of(event: Event) -> Failure:
    assert event.body.failure is not None
    return event.body.failure


def last_hop(event: Event) -> Hop:
    return event.body.trail[-1]


@pytest.mark.parametrize(("options", "most"), [(BudgetOptions(share=0.2, a_second=0.5), 125), (PLENTY, 300)])
async def test_an_outage_is_met_with_a_fifth_more_and_not_with_a_multiple(options: BudgetOptions, most: int) -> None:
    role = Script(always_down)
    dead, trying = await tried(role, *tasks(100), options=options)
    assert role.acts == most
    # each had all its attempts, and says what came of them
    assert {last_hop(event).attempts for event in dead} == {3}
    assert {failure_of(event).kind for event in dead} == {"unreachable"}
    assert trying.decisions["transient", "attempts"] + trying.decisions["overloaded", "attempts"] == 100


async def test_an_attempt_that_was_not_made_is_in_the_trail() -> None:
    [dead], _ = await tried(Script(always_down), *tasks(1), options=BudgetOptions(share=0, a_second=0))
    assert last_hop(dead).notes[:2] == (
        "attempt 1: unreachable: nobody there",
        "attempt 2: retry-budget: not made: acme has no retries left at present",
    )


async def test_one_tenants_outage_takes_no_retry_of_another() -> None:
    async def act(event: Event, state: Cell) -> Outcome:
        return Forward({"in": event.attempt}) if event.tenant == "other" and event.attempt > 1 else DOWN

    one = BudgetOptions(share=0, a_second=0.1)
    [*_, other], trying = await tried(Script(act), *tasks(9), an_event(tenant="other"), options=one)
    assert other.body.outputs == {"facts": {"in": 2}}
    assert trying.decisions["overloaded", "no-budget"] > 0


async def test_a_retry_that_succeeds_lets_the_next_one_go() -> None:
    role = Script(scripted([DOWN, Forward(), DOWN, Forward()]))
    trying = Trying(role, FakePorts(), CHAINS)
    trying.budgets = Budgets(lambda: BudgetOptions(share=0, a_second=0.1))
    for event in tasks(2):
        [delivery] = deliver([event], "prepare")
        [record] = await trying.records(event, delivery)
        assert last_hop(decode(record.value, record.headers)).attempts == 2
    assert role.acts == 4


async def test_each_class_has_the_attempts_that_the_step_declares() -> None:
    policy = Attempts(5, 0.0, 0.0, by_class={"bug": Attempts(2, 0.0, 0.0), "overloaded": Attempts(4, 0.0, 0.0)})
    for kind, acts in (("unreachable", 5), ("bug", 2), ("overloaded", 4), ("refused", 1), ("deadline", 1)):
        role = Script(scripted([Retry(Failure(kind=kind, message="no"))] * 9), policy)
        [dead], _ = await tried(role, *tasks(1))
        assert (kind, role.acts, failure_of(dead).kind) == (kind, acts, kind)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseExceptionGroup("x", [SystemExit()])]
)
async def test_what_is_no_exception_is_a_bug_of_the_step_too(error: BaseException) -> None:
    role = Script(scripted([error] * 3))
    [dead], _ = await tried(role, *tasks(1))
    assert (role.acts, failure_of(dead).kind) == (3, "bug")
    assert type(error).__name__ in failure_of(dead).traceback


async def test_what_is_thrown_away_ends() -> None:
    trying = Trying(Script(lambda event, state: asyncio.sleep(9, Forward())), FakePorts(), CHAINS)
    [delivery] = deliver(tasks(1), "prepare")
    running = trying.records(tasks(1)[0], delivery)
    context = copy_context()
    context.run(running.send, None)
    closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: closed.set_result(_error_of(running.close)), context=context)
    assert await closed is None


def _error_of(act: Callable[[], None]) -> BaseException | None:
    try:
        act()
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize(("own", "says"), [(5_000_000, "its output has 5,000,0"), (3_000_000, "the event has 6,000,")])
async def test_an_output_that_is_too_large_says_so(own: int, says: str, caplog: pytest.LogCaptureFixture) -> None:
    before = {"photo": {"text": "x" * 3_000_000}}
    (dead,), _ = await tried(Script(scripted([Forward({"text": "x" * own})])), an_event(outputs=before))
    failure = failure_of(dead)
    assert (failure.kind, failure.traceback, class_of(failure.kind)) == ("output-too-large", "", "refused")
    assert failure.message.startswith("what 'facts' gives is too large: " + says)
    assert "Traceback" not in caplog.text


async def test_no_secret_is_kept_of_an_exception() -> None:
    said = (
        "401 for POST https://shop:hunter2secret@db.test/x with {'Authorization': 'Bearer abc.def.ghi'}, "
        "api_key=0123456789, X-Api-Key: zyxwv98765 and our own corporate-key-77 in it"
    )
    [dead], _ = await tried(Script(scripted([ValueError(said)] * 3)), *tasks(1), mask=Mask(["corporate-key-77", "in"]))
    kept = failure_of(dead).message + failure_of(dead).traceback + "".join(last_hop(dead).notes)
    for secret in ("hunter2secret", "abc.def.ghi", "0123456789", "zyxwv98765", "corporate-key-77"):
        assert secret not in kept
    assert "our own *** in it" in failure_of(dead).message


async def test_a_traceback_of_any_length_is_kept_in_bounds() -> None:
    [dead], _ = await tried(Script(scripted([ValueError("x" * 3_000_000 + " token=abcdef12345")] * 3)), *tasks(1))
    assert len(failure_of(dead).message) <= 2_000
    assert len(failure_of(dead).traceback) <= 8_000
    assert "abcdef12345" not in failure_of(dead).traceback


async def test_a_retry_that_could_not_end_before_the_deadline_is_not_begun() -> None:
    role = Script(always_down, needs_seconds=5.0)
    [dead], trying = await tried(role, *tasks(1, time=990.0, deadline=1_004.0))
    assert role.acts == 1
    assert failure_of(dead).kind == "deadline"
    assert failure_of(dead).message.startswith(
        "no time is left for another attempt; the last failed with unreachable: nobody there; its time went into facts"
    )
    assert trying.decisions == {("transient", "deadline"): 1}


async def test_the_trail_says_where_the_time_went() -> None:
    async def act(event: Event, state: Cell) -> Outcome:
        with waiting():
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.02)
        return DOWN if event.attempt < 3 else Forward()

    [done], _ = await tried(Script(act), *tasks(1))
    assert last_hop(done).waited >= 0.09 - 0.005
    assert last_hop(done).retried >= 0.04 - 0.005


async def test_a_burial_by_the_step_itself_is_no_success() -> None:
    role = Script(scripted([DOWN, Bury(Failure(kind="refused", message="no")), DOWN, Forward()]))
    trying = Trying(role, FakePorts(), CHAINS)
    trying.budgets = Budgets(lambda: BudgetOptions(share=0, a_second=0.1))
    for event in tasks(2):
        await trying.records(event, deliver([event], "prepare")[0])
    assert role.acts == 3


@pytest.mark.parametrize(
    "outcome",
    [Forward({}), Finish(), Hold("look"), Bury(Failure(kind="bug", message="no"))],
)
async def test_whatever_a_step_decides_its_hop_tells_what_its_calls_cost(outcome: Outcome) -> None:
    paid = Spend(kind=SpendKind.ANSWER, cost=Decimal("0.25"))
    reply = Reply("A mug.", spends=(paid,))

    async def asks(event: Event, state: Cell) -> Outcome:
        await state.save(answer(answer(None, "mine", reply, round_of(event)), "an earlier step's", reply, "0.0.0"))
        return outcome

    [event], _ = await tried(Script(asks, pays=True), an_event(sequence=1))
    assert last_hop(event).spends == (paid,)
