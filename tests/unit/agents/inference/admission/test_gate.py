"""The gate of a pool: who goes, who waits for what, and what comes back."""

import asyncio
from typing import Any

import pytest

from callstream.agents.inference.admission.fakes import MemorySpending
from callstream.agents.inference.admission.gate import Gate
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.permit import Permit, Stale
from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.call import Call, CallFailed, Draft, Reply
from callstream.agents.inference.choice import Choice
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.streams.event import Priority, Usage
from callstream.streams.wire import LogUnavailable

ALL = frozenset(range(4))


class Clock:
    """Two clocks that are set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1_764_000_000.0


def options(*endpoints: dict[str, Any], **more: Any) -> InferenceOptions:
    made = [{"base_url": "http://h/v1", "model": "m", "start_concurrency": 2, **one} for one in endpoints]
    return InferenceOptions.model_validate({"pools": {"copywriter": {"endpoints": made}}, **more})


ONE = {"name": "a", "concurrency": 2}
LIMITED = {"name": "a", "concurrency": 50, "start_concurrency": 50, "limits": {"tokens_per_minute": 1000}}


class Bench:
    """The gate of one pool, over a table in memory."""

    def __init__(self, given: InferenceOptions, rows: MemorySpending | None = None) -> None:
        self.clock = Clock()
        self.rows = MemorySpending(owned=ALL) if rows is None else rows
        self.gates = Gates(given, (self.clock.monotonic, self.clock.wall))
        self.gates.share(self.rows, 4)
        self.gate: Gate = self.gates["copywriter"]

    def ask(self, number: int, out: int = 100, **changes: Any) -> "asyncio.Task[Permit]":
        return asyncio.create_task(self.go(number, out, **changes))

    async def go(self, number: int, out: int = 100, **changes: Any) -> Permit:
        permit = await self.gate.admit(call(number, out, **changes))
        await permit.place()
        return permit

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.gates.pump()


def call(number: int, out: int = 100, **changes: Any) -> Call:
    request = {"messages": [], "max_tokens": out}
    return a_call(**{"id": f"call-{number}", "task": f"task-{number}", "request": request, **changes})


async def settled(*tasks: "asyncio.Task[Permit]") -> list[bool]:
    """Which of them have their permit, once everything has run."""
    for _ in range(20):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


def reply(tokens: int) -> Reply:
    return Reply("A mug.", usage=Usage(tokens_in=tokens, tokens_out=0))


async def test_as_many_go_as_the_endpoint_bears_and_the_next_when_one_comes_back() -> None:
    bench = Bench(options(ONE))
    first, second, third = (bench.ask(number) for number in range(3))
    assert await settled(first, second, third) == [True, True, False]
    assert bench.gate.waiting(10)["acme/task-2"]["reason"] == "concurrency"
    first.result().answered(reply(10))
    assert await settled(third) == [True]
    assert third.result().endpoint == "a"


async def test_a_limit_lets_through_what_has_room_and_the_rest_when_the_window_has_moved_on() -> None:
    bench = Bench(options(LIMITED))
    asks = [bench.ask(number, out=300) for number in range(4)]
    assert await settled(*asks) == [True, True, True, False]
    told = bench.gate.waiting(10)["acme/task-3"]
    assert (told["reason"], told["waits_for"], told["calls_before"]) == ("tokens", "tokens of a", 0)
    bench.later(60)
    assert await settled(asks[3]) == [False]
    bench.later(2.1)
    assert await settled(asks[3]) == [True]


async def test_what_was_reserved_and_not_taken_is_there_for_the_next() -> None:
    bench = Bench(options(LIMITED))
    first, second = bench.ask(1, out=900), bench.ask(2, out=900)
    assert await settled(first, second) == [True, False]
    first.result().answered(reply(20))
    assert await settled(second) == [True]


async def test_nothing_goes_before_its_reservation_is_on_the_log() -> None:
    bench = Bench(options(LIMITED))
    bench.rows.hold()
    ask = bench.ask(1)
    assert await settled(ask) == [False]
    bench.rows.release()
    assert await settled(ask) == [True]
    assert bench.rows.log


async def test_a_log_that_takes_nothing_is_told_to_the_caller_and_the_place_is_free_again() -> None:
    bench = Bench(options(LIMITED))
    bench.rows.refuse()
    with pytest.raises(LogUnavailable):
        await bench.go(1)
    assert bench.gate.desks[0].window.in_flight == 0


async def test_behind_the_one_whose_turn_it_is_all_wait_for_their_turn() -> None:
    bench = Bench(options(LIMITED))
    asks = [bench.ask(1, out=900), bench.ask(2, out=900), bench.ask(3, out=10)]
    assert await settled(*asks) == [True, False, False]
    last = bench.gate.waiting(10)["acme/task-3"]
    assert (last["reason"], last["calls_before"]) == ("fair share", 1)
    assert last["tokens_before"] >= 900


async def test_high_does_not_wait_behind_a_backlog_of_low() -> None:
    bench = Bench(options(ONE))
    low = [bench.ask(number, priority=Priority.LOW) for number in range(20)]
    await settled(*low)
    high = bench.ask(99, priority=Priority.HIGH)
    await settled(high)
    low[0].result().answered(reply(10))
    assert await settled(high) == [True]


async def test_tenants_take_turns() -> None:
    bench = Bench(options({**ONE, "concurrency": 1, "start_concurrency": 1}))
    first = bench.ask(0, tenant="shop")
    await settled(first)
    many = [bench.ask(number, out=1000, tenant="shop") for number in range(1, 11)]
    few = [bench.ask(100 + number, out=1000, tenant="acme") for number in range(2)]
    await settled(*many, *few)
    running, served = first, []
    for _ in range(4):
        running.result().answered(reply(1000))
        await settled(running)
        running = next(task for task in (*many, *few) if task.done() and task not in served)
        served.append(running)
    assert sum(task in few for task in served) == 2


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    bench = Bench(options(ONE))
    running = [bench.ask(number) for number in range(2)]
    waiting = bench.ask(3)
    await settled(*running, waiting)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(bench.gate) == 0
    assert bench.gate.snapshot()["waiting"] == []


async def test_a_permit_that_nobody_takes_is_given_back() -> None:
    bench = Bench(options(LIMITED))
    bench.rows.hold()
    ask = bench.ask(1, out=900)
    await settled(ask)
    ask.cancel()
    await asyncio.gather(ask, return_exceptions=True)
    bench.rows.release()
    other = bench.ask(2, out=900)
    assert await settled(other) == [True]
    assert bench.gate.desks[0].window.in_flight == 1


async def test_a_permit_is_good_for_a_second() -> None:
    bench = Bench(options(LIMITED))
    permit = await bench.go(1)
    bench.clock.now += 1.1
    with pytest.raises(Stale):
        permit.require()
    permit.abandoned()
    (room,) = bench.gate.snapshot()["endpoints"][0]["limits"]
    assert room["spent"] == 0


async def test_a_permit_is_worth_nothing_after_a_rebalance() -> None:
    bench = Bench(options(LIMITED))
    permit = await bench.go(1)
    bench.rows.rebalance(ALL)
    with pytest.raises(Stale):
        permit.require()


async def test_what_was_sent_and_lost_stays_spent() -> None:
    bench = Bench(options(LIMITED))
    permit = await bench.go(1, out=500)
    permit.sent = True
    permit.abandoned()
    (room,) = bench.gate.snapshot()["endpoints"][0]["limits"]
    assert room["spent"] >= 500


async def test_without_a_partition_all_wait_and_go_on_when_there_is_one() -> None:
    bench = Bench(options(LIMITED), MemorySpending())
    ask = bench.ask(1)
    assert await settled(ask) == [False]
    assert bench.gate.waiting(1)["acme/task-1"]["reason"] == "no share"
    bench.rows.rebalance(ALL)
    bench.gates.pump()
    assert await settled(ask) == [True]


async def test_limits_need_a_share_and_who_has_none_is_told() -> None:
    gates = Gates(options(LIMITED), (Clock().monotonic, Clock().wall))
    with pytest.raises(CallFailed, match="only service infer has shares"):
        await gates["copywriter"].admit(call(1))


async def test_late_work_is_not_started() -> None:
    bench = Bench(options(ONE))
    running = [bench.ask(number) for number in range(2)]
    await settled(*running)
    late = bench.ask(3, deadline=bench.clock.wall() + 5)
    await settled(late)
    bench.later(6)
    with pytest.raises(CallFailed, match="deadline passed while") as failure:
        await late
    assert failure.value.kind == Kind.DEADLINE


def overloaded(after: float | None = None) -> CallFailed:
    return failed(Kind.OVERLOADED, "HTTP 429", after)


async def test_an_endpoint_that_says_its_limit_is_used_up_is_left_alone_until_it_is_not() -> None:
    bench = Bench(options(ONE))
    permits = [await bench.go(number) for number in range(2)]
    permits[0].refused(overloaded(), Told(tokens_left=0, tokens_reset_seconds=7.0))
    waiting = bench.ask(3)
    await settled(waiting)
    assert bench.gate.waiting(1)["acme/task-3"]["reason"] == "retry-after"
    bench.later(7.1)
    assert await settled(waiting) == [True]


async def test_retry_after_of_the_only_call_closes_the_endpoint() -> None:
    bench = Bench(options(ONE))
    permit = await bench.go(1)
    permit.refused(overloaded(30.0), None)
    waiting = bench.ask(2)
    bench.later(29)
    assert await settled(waiting) == [False]
    bench.later(1.1)
    assert await settled(waiting) == [True]


async def test_a_refusal_while_others_are_answered_is_about_how_many() -> None:
    bench = Bench(options({"name": "a", "concurrency": 8, "start_concurrency": 8}))
    permits = [await bench.go(number) for number in range(8)]
    permits[7].refused(overloaded(30.0), None)
    assert bench.gate.snapshot()["endpoints"][0]["closed_seconds"] == 0
    assert bench.gate.desks[0].window.limit < 8


async def test_a_broken_endpoint_is_left_for_another_and_tried_again() -> None:
    bench = Bench(options({"name": "a"}, {"name": "b", "weight": 0}))
    while (permit := await bench.go(1)).endpoint == "a":
        permit.refused(failed(Kind.UNREACHABLE, "no connection"), None)
    assert permit.endpoint == "b"
    assert bench.gate.snapshot()["endpoints"][0]["breaker"] == "open"
    bench.later(3600)
    assert (await bench.go(2)).endpoint == "a"


async def test_other_settings_hold_for_those_who_wait() -> None:
    bench = Bench(options(LIMITED))
    asks = [bench.ask(number, out=900) for number in range(2)]
    assert await settled(*asks) == [True, False]
    bench.gates.reconfigured(options({**LIMITED, "limits": {"tokens_per_minute": 3000}}))
    assert await settled(asks[1]) == [True]


async def test_a_pool_that_goes_fails_those_who_wait_for_it() -> None:
    bench = Bench(options(ONE))
    asks = [bench.ask(number) for number in range(3)]
    await settled(*asks)
    bench.gates.reconfigured(InferenceOptions())
    with pytest.raises(CallFailed, match="no longer configured"):
        await asks[2]


async def test_endpoints_of_one_account_share_its_limits() -> None:
    shared = {"account": "acme", "concurrency": 9, "start_concurrency": 9}
    given = options({"name": "a", **shared}, {"name": "b", **shared}, accounts={"acme": {"requests_per_minute": 3}})
    bench = Bench(given)
    asks = [bench.ask(number) for number in range(4)]
    assert await settled(*asks) == [True, True, True, False]
    assert bench.gate.waiting(1)["acme/task-3"]["reason"] == "requests"


async def test_the_earliest_deadline_of_a_tenants_calls_goes_first_where_its_step_says_so() -> None:
    bench = Bench(options({"name": "a", "concurrency": 1, "start_concurrency": 1}))
    now = bench.clock.wall()
    first = bench.ask(0)
    assert await settled(first) == [True]
    asks = [bench.ask(1), bench.ask(2, deadline=now + 9, first=True), bench.ask(3, deadline=now + 5, first=True)]
    assert await settled(*asks) == [False, False, False]
    before = {task: told["calls_before"] for task, told in bench.gate.waiting(10).items()}
    assert before == {"acme/task-3": 0, "acme/task-2": 1, "acme/task-1": 2}
    for ended, going in ((first, asks[2]), (asks[2], asks[1]), (asks[1], asks[0])):
        ended.result().answered(reply(10))
        assert await settled(going) == [True]


async def test_a_call_is_given_up_when_less_is_left_than_it_takes() -> None:
    bench = Bench(options({"name": "a", "concurrency": 1, "start_concurrency": 1}))
    deadline = bench.clock.wall() + 10
    first, late, other = bench.ask(0), bench.ask(1, deadline=deadline, needs_seconds=4), bench.ask(2, deadline=deadline)
    assert await settled(first, late, other) == [True, False, False]
    bench.later(5.9)
    assert await settled(late) == [False]
    bench.later(0.2)
    assert await settled(late, other) == [True, False]
    with pytest.raises(
        CallFailed, match=r"until less was left to the task's deadline than the 4\.0 s it takes"
    ) as given_up:
        late.result()
    assert given_up.value.kind == "deadline"


async def test_a_paused_pool_lets_nothing_through_and_says_so_to_all_that_wait() -> None:
    bench, paused = Bench(options(ONE)), {"copywriter"}
    bench.gates.paused = paused.__contains__
    asks = [bench.ask(number) for number in range(3)]
    assert await settled(*asks) == [False, False, False]
    assert {why["reason"] for why in bench.gate.waiting(10).values()} == {"paused"}
    assert (bench.gates.report()["pools"][0]["reason"], bench.gates.resting) == ("paused", True)
    assert bench.gates.tasks() == {("acme", f"task-{number}"): 1 for number in range(3)}
    paused.clear()
    bench.gates.pump()
    assert await settled(*asks) == [True, True, False]
    assert (bench.gates.resting, set(bench.gates.tasks())) == (False, {("acme", "task-2")})


async def test_a_call_does_not_outlive_its_deadline_for_a_pause() -> None:
    bench = Bench(options(ONE))
    bench.gates.paused = lambda _pool: True
    ask = bench.ask(1, deadline=bench.clock.wall() + 5)
    assert await settled(ask) == [False]
    bench.later(6)
    assert await settled(ask) == [True]
    assert isinstance(ask.exception(), CallFailed)


async def test_an_estimate_sees_the_whole_minute_of_a_limit_that_lets_its_calls_through_in_a_burst() -> None:
    limited = {"name": "a", "concurrency": 50, "start_concurrency": 50, "limits": {"requests_per_minute": 20}}
    bench = Bench(options(limited))
    asked = [bench.ask(number) for number in range(40)]
    await settled(*asked)
    for second in range(1, 59):
        bench.later(1.0)
        told = bench.gate.waiting(40)["acme/task-39"]
        middle, within = told["estimate_seconds"], told["estimate_within_seconds"]
        if middle is None:
            assert second < 3
        else:
            # It goes with the calls of the second minute, which nobody knows yet to be as many as those of the first.
            assert middle - within - 1 <= 62 - second <= middle + within, (second, told)
    for task in asked:
        task.cancel()


async def test_an_estimate_is_not_before_the_moment_until_which_the_next_call_waits() -> None:
    bench = Bench(options(ONE))
    first = bench.ask(1)
    await settled(first)
    first.result().refused(overloaded(3000.0), None)
    bench.later(3.0)
    third = bench.ask(3)
    await settled(third)
    seen = bench.gate.waiting(1)["acme/task-3"]
    assert seen["reason"] == "retry-after"
    assert seen["estimate_seconds"] - seen["estimate_within_seconds"] == 2997.0
    third.cancel()


async def test_there_is_no_estimate_once_nothing_went_for_a_minute() -> None:
    bench = Bench(options(ONE))
    first, second, third = (bench.ask(number) for number in range(3))
    await settled(first, second, third)
    for _ in range(70):
        bench.later(1.0)
    assert bench.gate.waiting(1)["acme/task-2"]["estimate_seconds"] is None
    third.cancel()


async def test_a_call_that_comes_back_to_the_gate_has_waited_all_the_time_that_it_waited() -> None:
    bench = Bench(options(ONE | {"start_concurrency": 1, "concurrency": 1}))
    first, asked = bench.ask(1), call(2)
    waits = asyncio.create_task(bench.gate.admit(asked))
    assert await settled(first, waits) == [True, False]
    bench.later(5)
    first.result().answered(reply(10))
    # when it was let through and is turned away
    assert await settled(waits) == [True]
    await waits.result().place()
    bench.later(60)
    waits.result().refused(failed(Kind.OVERLOADED, "busy", after_seconds=30), None)
    again = asyncio.create_task(bench.gate.admit(asked))
    assert await settled(again) == [False]
    bench.later(2)
    # then the time that it was called is no wait, and the wait before is
    assert bench.gate.waiting(10)["acme/task-2"]["waited_seconds"] == 7
    again.cancel()


async def test_a_call_in_flight_says_where_and_since_when_and_does_not_wait() -> None:
    bench = Bench(options(ONE | {"start_concurrency": 1, "concurrency": 1}))
    first, second = bench.ask(1), bench.ask(2)
    assert await settled(first, second) == [True, False]
    began = bench.clock.wall()
    bench.later(40)
    told = bench.gates.report()
    assert told["calling"] == {
        "acme/task-1": {"pool": "copywriter", "endpoint": "a", "lane": "normal", "since": began, "seconds": 40}
    }
    assert list(told["calls"]) == ["acme/task-2"]
    assert [one["calls"] for one in told["pools"][0]["waiting"]] == [1]
    # and when it has come back it is called no more
    first.result().answered(reply(10))
    assert await settled(second) == [True]
    assert list(bench.gates.report()["calling"]) == ["acme/task-2"]


async def test_a_call_that_is_on_its_way_to_be_sent_is_not_called_yet() -> None:
    bench = Bench(options(ONE))
    permit = await bench.gate.admit(call(1))
    assert bench.gate.calling(10) == {}
    await permit.place()
    assert list(bench.gate.calling(10)) == ["acme/task-1"]
    assert bench.gate.calling(0) == {}
    permit.abandoned()
    assert bench.gate.calling(10) == {}


TWO = options({"name": "a", "concurrency": 2}, {"name": "b", "concurrency": 2, "context_tokens": 100_000})


def chosen(*endpoints: str, **more: Any) -> Choice:
    return Choice("copywriter", "copywriter", frozenset(endpoints), rule="canary", **more)


async def test_a_chosen_endpoint_has_its_calls_and_nobody_else_waits_behind_them() -> None:
    bench = Bench(TWO)
    bound = [bench.ask(number, choice=chosen("b")) for number in range(3)]
    assert await settled(*bound) == [True, True, False]
    assert {task.result().endpoint for task in bound[:2]} == {"b"}
    told = bench.gate.waiting(10)["acme/task-2"]
    assert (told["reason"], told["waits_for"], told["rule"]) == ("concurrency", "concurrency of b", "canary")
    free = bench.ask(4)
    assert await settled(free) == [True]
    assert free.result().endpoint == "a"
    assert bench.gate.calling(10)["acme/task-0"]["rule"] == "canary"
    bound[0].result().answered(reply(10))
    assert await settled(bound[2]) == [True]
    assert bound[2].result().endpoint == "b"


async def test_another_endpoint_has_the_call_where_the_chosen_one_is_out_unless_no_other_will_do() -> None:
    bench = Bench(TWO)
    first = bench.ask(1, choice=chosen("b"))
    assert await settled(first) == [True]
    first.result().refused(failed(Kind.OVERLOADED, "full", after_seconds=30.0), None)
    loose, strict = bench.ask(2, choice=chosen("b")), bench.ask(3, choice=chosen("b", only=True))
    assert await settled(loose, strict) == [True, False]
    assert loose.result().endpoint == "a"
    assert bench.gate.waiting(10)["acme/task-3"]["waits_for"] == "retry-after of b"
    bench.later(30.1)
    assert await settled(strict) == [True]
    assert strict.result().endpoint == "b"


async def test_what_failed_at_the_only_chosen_endpoint_is_told_to_wait() -> None:
    bench = Bench(TWO)
    with pytest.raises(CallFailed, match="no endpoint of pool copywriter that its rules choose") as told:
        await bench.go(1, choice=chosen("b", only=True), avoid=frozenset({"b"}))
    assert (told.value.kind, told.value.retryable) == (Kind.OVERLOADED, True)


async def test_weights_of_a_rule_stand_in_place_of_the_settings() -> None:
    bench = Bench(TWO)
    asks = [bench.ask(number, choice=Choice("copywriter", "copywriter", weights=(("a", 0),))) for number in range(2)]
    assert await settled(*asks) == [True, True]
    assert [task.result().endpoint for task in asks] == ["b", "b"]


async def test_limits_hold_for_chosen_endpoints_as_for_all() -> None:
    bench = Bench(options({**LIMITED, "name": "a"}, {"name": "b", "concurrency": 50, "start_concurrency": 50}))
    asks = [bench.ask(number, out=300, choice=chosen("a")) for number in range(4)]
    assert await settled(*asks) == [True, True, True, False]
    bench.later(62.1)
    assert await settled(asks[3]) == [True]
    assert asks[3].result().endpoint == "a"


async def test_calls_that_wait_where_they_should_not_any_more_are_turned_out() -> None:
    bench = Bench(TWO)
    bound = [bench.ask(number, choice=chosen("b", only=True)) for number in range(4)]
    assert await settled(*bound) == [True, True, False, False]
    bench.gates.turn_out(lambda call: call.task == "task-2")
    assert await settled(*bound) == [True, True, True, False]
    with pytest.raises(Stale):
        bound[2].result()
    assert len(bench.gate) == 1


async def test_a_large_call_to_a_chosen_endpoint_does_not_starve_behind_small_ones_of_others() -> None:
    # given a call that needs most of what its endpoint may have in a minute, of which some is spent
    bench = Bench(options({**LIMITED, "name": "a"}, {**LIMITED, "name": "b"}))
    spent = bench.ask(0, out=300, choice=chosen("a"))
    assert await settled(spent) == [True]
    large = bench.ask(1, out=900, choice=chosen("a", only=True))
    assert await settled(large) == [False]
    # when small ones come that may go anywhere
    small = [bench.ask(number, out=300) for number in range(2, 6)]
    # then they have the other endpoint, and wait for their turn where the large one waits
    assert await settled(*small) == [True, True, True, False]
    assert {task.result().endpoint for task in small[:3]} == {"b"}
    bench.later(62.1)
    assert await settled(large) == [True]
    assert large.result().endpoint == "a"
    assert await settled(*small) == [True] * 4


async def test_a_request_that_goes_on_is_reserved_with_what_it_goes_on_from() -> None:
    bench = Bench(options({**LIMITED, "continue_with": {}, "limits": {"tokens_per_minute": 100_000}}))
    anew = await bench.go(1, stream=True)
    going_on = await bench.go(2, stream=True, draft=Draft("word " * 2000))

    assert going_on.reserved_tokens[0] > anew.reserved_tokens[0] + 2000
