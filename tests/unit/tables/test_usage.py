"""What calls cost, summed up by day, tenant, chain and model: each step once, whatever ends in between."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.event import Event, Hop, Json
from callstream.streams.spend import Spend, SpendKind
from callstream.streams.wire import LogUnavailable
from callstream.tables import journal, usage_book
from callstream.tables.fakes import MemoryRows
from callstream.tables.journal import Journal
from callstream.tables.usage import OTHERS, UsageKey, day_after, day_of, decode_key, expired, grouped, regrouped
from callstream.tables.usage_book import UsageBook
from tests.support.events import CHAINS, an_event

NOW = 1_700_000_000.0
DAY = "2023-11-14"


def spend(kind: SpendKind = SpendKind.ANSWER, cost: str = "0.1", **more: Any) -> Spend:
    members: dict[str, Any] = {"endpoint": "e", "model": "writer|x", "tokens_in": 10, "tokens_out": 2, "at": NOW} | more
    return Spend(kind=kind, cost=Decimal(cost), **members)


def hop(*spends: Spend, ended: float = NOW) -> Hop:
    return Hop(step="copy", service="infer", started=NOW - 1, ended=ended, spends=spends)


def done(*hops: Hop, task: str = "mug-1", **changes: Any) -> Event:
    return an_event(task=task, sequence=len(hops), trail=hops, **changes)


class Gateway:
    """A journal over tables in memory; a later one over the same disk is another process."""

    def __init__(self) -> None:
        self.tasks, self.latency, self.usage = MemoryRows(), MemoryRows(), MemoryRows()
        self.start()

    def start(self) -> None:
        book = UsageBook(self.usage, lambda: NOW)
        self.journal = Journal(self.tasks, self.latency, CHAINS, lambda: NOW, lambda _row: None, book)

    async def record(self, *events: Event) -> None:
        await asyncio.gather(*(self.journal.record(self.tasks.claim(0), event) for event in events))

    def rows(self) -> list[tuple[UsageKey, Json]]:
        found = self.usage.scan(0, most=1_000)
        return [(decode_key(key), json.loads(row)["kinds"]) for key, row in found]

    def sums(self, *by: str) -> list[Json]:
        return grouped(self.rows(), by)

    def cost(self) -> str:
        [one] = self.sums()
        return str(one["cost"])


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(journal, "LONGEST_FLUSH_SECONDS", 0.0)
    return Gateway()


async def test_a_step_is_summed_up_by_kind(gateway: Gateway) -> None:
    await gateway.record(done(hop(spend(), spend(SpendKind.HEDGE_LOSER, "0.05", estimated=True))))
    assert gateway.sums("day", "tenant", "chain", "endpoint", "model", "kind") == [
        {
            "day": DAY,
            "tenant": "acme",
            "chain": "shop",
            "endpoint": "e",
            "model": "writer|x",
            "kind": kind,
            "currency": "USD",
            "calls": 1,
            "tokens_in": 10,
            "tokens_out": 2,
            "tokens_cached": 0,
            "cost": cost,
            "estimated": estimated,
        }
        for kind, cost, estimated in (("answer", "0.1", "0"), ("hedge-loser", "0.05", "0.05"))
    ]


async def test_an_event_that_comes_again_is_counted_once(gateway: Gateway) -> None:
    first, second = hop(spend()), hop(spend(), ended=NOW + 1)
    await gateway.record(done(first))
    await gateway.record(done(first), done(first, second), done(first, second))
    assert gateway.cost() == "0.2"
    gateway.start()
    await gateway.record(done(first), done(first, second))
    assert gateway.cost() == "0.2"


async def test_many_steps_of_one_moment_are_all_counted(gateway: Gateway) -> None:
    await gateway.record(*(done(hop(spend()), task=f"mug-{number}") for number in range(100)))
    assert gateway.cost() == "10"


async def test_a_process_that_ends_between_both_rows_counts_once(gateway: Gateway) -> None:
    # given: the usage is on the log, and the task's row is not
    event = done(hop(spend()))
    gateway.tasks.refuse()
    with pytest.raises(LogUnavailable):
        await gateway.record(event)
    gateway.tasks = MemoryRows()
    # when the event comes again to a process over what the log has
    gateway.start()
    await gateway.record(event, done(hop(spend()), task="other"))
    assert gateway.cost() == "0.2"
    # then a later one remembers nothing that is needed no more
    await gateway.record(done(hop(spend()), task="third"))
    [(_, raw)] = gateway.usage.scan(0)
    assert len(json.loads(raw)["marks"]) <= 2


async def test_a_usage_that_did_not_reach_the_log_is_counted_when_its_event_comes_again(gateway: Gateway) -> None:
    event = done(hop(spend()))
    gateway.usage.refuse()
    with pytest.raises(LogUnavailable):
        await gateway.record(event)
    assert gateway.tasks.read(0, event.key) is None
    # its row is on this disk alone: it is written once more
    kept, gateway.usage = gateway.usage, MemoryRows()
    for key, raw in kept.scan(0):
        await gateway.usage.write(gateway.usage.claim(0), key, raw)
    gateway.usage.written.clear()
    gateway.start()
    await gateway.record(event)
    assert (gateway.cost(), len(gateway.usage.written)) == ("0.1", 1)


async def test_a_partition_that_was_away_is_read_anew(gateway: Gateway) -> None:
    await gateway.record(done(hop(spend())))
    gateway.journal.forget()
    other = Gateway()
    other.tasks, other.usage = gateway.tasks, gateway.usage
    other.start()
    await other.record(done(hop(spend()), task="other"))
    await gateway.record(done(hop(spend()), task="third"))
    assert gateway.cost() == "0.3"


async def test_a_later_run_counts_what_it_did_itself(gateway: Gateway) -> None:
    kept, again = hop(spend()), hop(spend(), ended=NOW + 9)
    await gateway.record(done(kept, hop(spend(), ended=NOW + 1)))
    await gateway.record(replace(done(kept, again), run=1))
    assert gateway.cost() == "0.3"


async def test_what_a_replayed_task_took_over_is_its_parents(gateway: Gateway) -> None:
    await gateway.record(replace(done(hop(spend()), hop(spend(), ended=NOW + 1)), parent="mug-0", inherited=1))
    assert gateway.cost() == "0.1"


async def test_each_request_counts_on_its_own_day_and_none_in_the_future(gateway: Gateway) -> None:
    await gateway.record(done(hop(spend(at=NOW - 86_400), spend(at=NOW + 10 * 86_400))))
    assert [one["day"] for one in gateway.sums("day")] == ["2023-11-13", DAY]


async def test_beyond_the_most_rows_of_a_day_what_comes_is_counted_in_one_for_all_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_book, "MOST_ROWS_A_DAY", 2)
    for number in range(5):
        await gateway.record(done(hop(spend(endpoint=f"e-{number}")), task=f"mug-{number}"))
    await gateway.record(done(hop(spend(endpoint="e-0")), task="last"))
    assert [(one["endpoint"], one["cost"]) for one in gateway.sums("endpoint")] == [
        (OTHERS, "0.3"),
        ("e-0", "0.2"),
        ("e-1", "0.1"),
    ]


@given(st.text(max_size=20), st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True))
def test_a_key_is_read_as_it_was_written(model: str, tenant: str) -> None:
    key = UsageKey(DAY, tenant, "shop", "e", model.encode("utf-8", "replace").decode(), "USD")
    assert decode_key(key.encode()) == key


def test_rows_of_old_days_expire() -> None:
    key = UsageKey(DAY, "acme", "shop", "e", "m", "USD").encode()
    day = 86_400.0
    assert [expired(key, 2, NOW + days * day) for days in (0, 2, 3)] == [False, False, True]


def test_days_follow_each_other() -> None:
    assert (day_of(NOW), day_after(DAY), day_after("2024-02-28"), day_after("9999-12-31")) == (
        DAY,
        "2023-11-15",
        "2024-02-29",
        "9999-12-31",
    )


async def test_sums_of_several_gateways_are_those_of_one(gateway: Gateway) -> None:
    await gateway.record(done(hop(spend(), spend(currency="EUR"))))
    mine = gateway.sums("tenant")
    assert [(one["currency"], one["cost"], one["calls"]) for one in regrouped([*mine, *mine], ["tenant"])] == [
        ("EUR", "0.2", 2),
        ("USD", "0.2", 2),
    ]
