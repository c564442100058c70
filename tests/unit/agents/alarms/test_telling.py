"""Incidents as events and webhooks, what gateways know of them, and what processes tell of their budgets."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from standardwebhooks import Webhook

from callstream.agents.actor import Actor
from callstream.agents.alarms.board import MOST_RECENT, Board
from callstream.agents.alarms.collector import AlarmCollector
from callstream.agents.alarms.incident import ENDED, RANG, Incident, as_event, read_incident, record_of
from callstream.agents.alarms.options import AlarmWebhook, Kind, Rule
from callstream.agents.alarms.refusals import Refusals
from callstream.agents.alarms.webhooks import AlarmWebhooks
from callstream.agents.fakes import FakeDelivery, FakePorts, stream
from callstream.agents.notification import NotifyOptions
from callstream.agents.notification.sender import Sender
from callstream.streams.chain import Chains
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Keep, Retry
from callstream.streams.wire import BadEvent

SECRET = "whsec_" + "bXkgdmVyeSBzZWNyZXQgc2VjcmV0IGZvciB0ZXN0cyE="
RULE = Rule(name="dead", kind=Kind.DEAD_LETTERS, threshold=2)


def incident(number: int = 1, subject: str = "shop/copy", **changes: Any) -> Incident:
    told = {"rule": "dead", "kind": Kind.DEAD_LETTERS, "subject": subject, "number": number, "value": 3.0}
    return Incident.model_validate({**told, "threshold": 2.0, "started": 90.0, "rang": 100.0, **changes})


def ended(one: Incident, at: float = 150.0) -> Incident:
    return one.model_copy(update={"state": "ended", "ended": at, "value": 0.0})


def test_ring_and_end_are_two_cloudevents_of_one_incident() -> None:
    rang, over = record_of(incident()), record_of(ended(incident()))
    first, second = dict(rang.headers), dict(over.headers)
    assert (first["ce_type"], second["ce_type"]) == (RANG.encode(), ENDED.encode())
    assert (first["ce_id"], second["ce_id"]) == (b"dead/shop/copy/1/rang", b"dead/shop/copy/1/ended")
    assert first["ce_subject"] == second["ce_subject"] == b"dead/shop/copy/1"
    assert rang.key == over.key
    assert second["ce_time"] == b"1970-01-01T00:02:30.000000Z"
    told = ended(incident()).told()
    assert (told["id"], told["lasted_seconds"]) == ("dead/shop/copy/1", 60.0)


@given(st.integers(1, 10**9), st.text(st.characters(exclude_categories=["Cs"]), max_size=400), st.booleans())
def test_what_is_told_is_read_as_it_was(number: int, subject: str, is_open: bool) -> None:
    given = incident(number, subject) if is_open else ended(incident(number, subject))
    record = record_of(given)
    assert read_incident(record.value) == given
    assert as_event(record.value, record.headers).key == record.key


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"rule": "x"}'])
def test_what_is_no_incident_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(BadEvent):
        read_incident(value)


def heard(board: Board, *incidents: Incident) -> Board:
    for one in incidents:
        record = record_of(one)
        board.hear(record.key.decode(), record.value)
    return board


def test_a_board_has_what_is_open_and_what_ended_lately() -> None:
    first, second, other = incident(), incident(2), incident(1, "shop/prompt")
    board = heard(Board([RULE]), first, ended(first), second, other)
    assert {one.id for one in board.open()} == {second.id, other.id}
    assert [one.id for one in board.recent()] == [first.id]
    # what comes again, or late, changes nothing
    heard(board, first, ended(first), second)
    assert {one.id for one in board.open()} == {second.id, other.id}
    board.hear("k", b"no json")
    assert ({one.id for one in board.open()}, board.ready) == ({second.id, other.id}, False)
    board.caught_up()
    assert board.ready


def test_a_board_keeps_no_more_than_it_may() -> None:
    board = Board(most=10)
    for number in range(300):
        heard(board, ended(incident(1, f"shop/{number}"), 200.0 + number))
    assert len(board.recent()) == MOST_RECENT
    heard(board, *(incident(1, f"open/{number}") for number in range(20)))
    assert len(board.open()) == 10


def test_the_gauge_has_each_rule_also_when_it_is_silent() -> None:
    board, registry = Board([RULE, RULE.model_copy(update={"name": "other"})]), CollectorRegistry()
    registry.register(AlarmCollector(board))
    heard(board, incident(), incident(1, "shop/prompt"))

    def gauge(rule: str) -> float | None:
        return registry.get_sample_value("callstream_alarms_open", {"rule": rule, "kind": "dead_letters"})

    assert (gauge("dead"), gauge("other")) == (2.0, 0.0)


def test_what_budgets_refused_is_told_once() -> None:
    decisions: Counter[tuple[str, str]] = Counter({("transient", "no-budget"): 2, ("transient", "again"): 9})
    actor = cast(Actor, SimpleNamespace(trying=SimpleNamespace(decisions=decisions)))
    endpoints = Counter({("writer", "mini"): 1})
    refusals = Refusals({"infer": actor}, endpoints)
    assert refusals.new() == {
        "refused": [
            {"budget": "retries", "service": "infer", "count": 2},
            {"budget": "retries", "pool": "writer", "endpoint": "mini", "count": 1},
        ]
    }
    assert refusals.new() is None
    decisions["overloaded", "no-budget"] += 5
    assert refusals.new() == {"refused": [{"budget": "retries", "service": "infer", "count": 5}]}


class Receivers:
    """Two receivers: what each answers, in order, and what came."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = answers
        self.received: list[tuple[int, str, dict[str, Any]]] = []
        self.registry = CollectorRegistry()

    async def take(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        told: Any = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        self.received.append((number, request.headers["webhook-id"], told))
        left = self.answers[number]
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    async def run(self, *incidents: Incident, allow_private: bool = True) -> FakePorts:
        """Tell of these by an actor, as the service does."""
        app = web.Application()
        app.router.add_post("/{number}", self.take)
        options = NotifyOptions(attempts=3, first_pause_seconds=0.01, allow_private=allow_private)
        async with TestServer(app) as server:
            hooks = [
                AlarmWebhook(url=str(server.make_url(f"/{number}")), secret=SecretStr(SECRET))
                for number in range(len(self.answers))
            ]
            sender = Sender(options)
            await sender.open()
            ports = FakePorts()
            role = AlarmWebhooks(hooks, options, sender, self.registry)
            actor = Actor(role, ports, Chains([]), 4, 10)
            actor.handling.decode = as_event
            acked: list[int] = []
            await actor.run(stream([FakeDelivery(record_of(one), (0, at), acked) for at, one in enumerate(incidents)]))
            assert await actor.drain(10)
            assert acked == list(range(len(incidents)))
            await sender.close()
        return ports

    def count(self, number: int, outcome: str) -> float:
        labels = {"webhook": str(number), "outcome": outcome}
        return self.registry.get_sample_value("callstream_alarm_webhooks_total", labels) or 0.0


async def test_each_is_told_once_and_who_was_busy_is_asked_again_under_one_id() -> None:
    receivers = Receivers([204], [503, 503, 204])
    ports = await receivers.run(incident())
    assert [number for number, _, _ in receivers.received] == [0, 1, 1, 1]
    assert len({name for _, name, _ in receivers.received}) == 1
    told = receivers.received[0][2]
    assert (told["type"], told["data"]["id"], told["timestamp"]) == (
        "alarm.rang",
        "dead/shop/copy/1",
        "1970-01-01T00:01:40.000000Z",
    )
    assert (receivers.count(0, "delivered"), receivers.count(1, "delivered"), receivers.count(1, "again")) == (1, 1, 2)
    assert ports.sent == []


async def test_ring_and_end_have_ids_of_their_own() -> None:
    receivers = Receivers([204])
    await receivers.run(incident(), ended(incident()))
    assert sorted(told["type"] for _, _, told in receivers.received) == ["alarm.ended", "alarm.rang"]
    assert len({name for _, name, _ in receivers.received}) == 2


@pytest.mark.parametrize(("status", "kind", "calls"), [(503, "callback-busy", 3), (410, "callback-refused", 1)])
async def test_who_cannot_be_told_is_given_up_and_it_is_seen(
    status: int, kind: str, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = Receivers([status])
    ports = await receivers.run(incident(), ended(incident()))
    assert len(receivers.received) == 2 * calls
    assert receivers.count(0, kind) == 2
    assert "was not told to alarms.webhooks.0" in caplog.text
    # no dead letter of an alarm, which would ring one
    assert (ports.sent, ports.crashes) == ([], [])


async def test_an_address_of_our_own_network_is_not_called() -> None:
    receivers = Receivers([204])
    await receivers.run(incident(), allow_private=False)
    assert (receivers.received, receivers.count(0, "callback-address")) == ([], 1)


async def test_without_webhooks_nothing_is_sent() -> None:
    role = AlarmWebhooks((), NotifyOptions(), Sender(NotifyOptions()), CollectorRegistry())
    record = record_of(incident())
    outcome = await role.act(as_event(record.value, record.headers), MemoryCell())
    assert outcome == Keep()
    assert not isinstance(outcome, Retry)
