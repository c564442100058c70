"""What the witness counts as answered, paid, repeated and refused."""

from typing import Any

from callstream.stub.counters import Counts
from callstream.stub.witness import MOST_EXAMPLES, Caller, End, Ring, Series, Witness


def witness(remember: int = 100, kept: int = 100) -> Witness:
    return Witness(remember, kept, origin_unix=1_000_000.0)


def answer(seen: Witness, caller: Caller, now: float, tokens: int = 10) -> None:
    call = seen.arrived(caller, "/v1/chat/completions", now)
    seen.admitted(tokens, now)
    seen.paid(call, tokens)
    seen.ended(call, End(200), tokens, now + 0.5)


def refuse(seen: Witness, caller: Caller, now: float) -> None:
    seen.ended(seen.arrived(caller, "/v1/chat/completions", now), End(429), 0, now)


def report(seen: Witness, now: float = 100.0) -> dict[str, Any]:
    return seen.report(now)


def test_a_good_call_is_answered_and_paid_once() -> None:
    seen = witness()

    answer(seen, Caller("t1", "acme", "t1/1"), 10.0)

    told = report(seen)
    assert (told["calls"], told["answered"], told["paid"], told["paid_tokens"]) == (1, 1, 1, 10)
    assert (told["duplicates"], told["paid_again"]) == (0, 0)
    assert told["tenants"]["acme"] == {"calls": 1, "answered": 1, "paid": 1, "refused": 0, "tokens": 10}


def test_a_call_id_answered_three_times_is_one_duplicate_and_two_repeats_paid() -> None:
    seen = witness()

    for now in (10.0, 11.0, 12.0):
        answer(seen, Caller("t1", "acme", "t1/1"), now)

    told = report(seen)
    assert (told["duplicates"], told["paid_again"], told["paid_again_tokens"]) == (1, 2, 20)
    assert told["duplicate_examples"] == ["t1/1"]
    assert told["most_calls_a_task"] == 3


def test_other_call_ids_of_a_task_are_no_duplicates() -> None:
    seen = witness()

    answer(seen, Caller("t1", "acme", "t1/1"), 10.0)
    answer(seen, Caller("t1", "acme", "t1/2"), 10.0)
    answer(seen, Caller("t2", "acme", None), 10.0)
    answer(seen, Caller("t2", "acme", None), 10.0)

    told = report(seen)
    assert (told["duplicates"], told["paid_again"], told["unkeyed"], told["call_ids"]) == (0, 0, 2, 2)
    assert seen.task("acme", "t1").calls == 2


def test_a_repeat_after_an_abandoned_answer_is_paid_again_but_answered_once() -> None:
    seen, caller = witness(), Caller("t1", "acme", "t1/1")
    call = seen.arrived(caller, "/v1/chat/completions", 10.0)
    seen.paid(call, 10)
    seen.ended(call, End(0, abandoned=True), 10, 11.0)

    answer(seen, caller, 12.0)

    told = report(seen)
    assert (told["abandoned"], told["answered"], told["duplicates"], told["paid_again"]) == (1, 1, 0, 1)


def test_a_replay_is_neither_paid_nor_a_duplicate() -> None:
    seen, caller = witness(), Caller("t1", "acme", "t1/1")
    answer(seen, caller, 10.0)

    seen.ended(seen.arrived(caller, "/v1/chat/completions", 11.0), End(200, replayed=True), 0, 11.0)

    told = report(seen)
    assert (told["replayed"], told["answered"], told["paid"], told["duplicates"]) == (1, 1, 1, 0)


def test_refusals_and_faults_are_counted_by_task_tenant_and_kind() -> None:
    seen = witness()

    refuse(seen, Caller("t1", "acme", "t1/1"), 10.0)
    refuse(seen, Caller("t1", "acme", "t1/1"), 11.0)
    seen.ended(seen.arrived(Caller("t2", "bolt", "t2/1"), "/v1/chat/completions", 12.0), End(503, "503"), 0, 12.0)

    told = report(seen)
    assert (told["refused"], told["failed"]) == (2, {"503": 1})
    assert seen.task("acme", "t1").refused == 2
    assert told["tenants"]["acme"]["refused"] == 2


def test_tasks_of_the_same_name_of_two_tenants_are_two() -> None:
    seen = witness()

    answer(seen, Caller("t1", "acme", "acme:t1/1"), 10.0)
    answer(seen, Caller("t1", "bolt", "bolt:t1/1"), 10.0)

    told = report(seen)
    assert (told["tasks"], told["most_calls_a_task"]) == (2, 1)
    assert seen.task("bolt", "t1").paid == 1


def test_attempts_of_a_task_are_numbered() -> None:
    seen, caller = witness(), Caller("t1", "acme", "t1/1")

    assert [seen.arrived(caller, "/", 10.0).attempt for _ in range(3)] == [0, 1, 2]


def test_the_largest_sliding_minute_is_kept() -> None:
    seen = witness()

    for now in (0.0, 50.0, 59.0, 70.0, 300.0):
        answer(seen, Caller(f"t{now}", "acme", None), now)

    window = report(seen, 301.0)["window"]
    assert window == {"seconds": 60, "most_requests": 3, "most_tokens": 30, "requests_now": 1, "tokens_now": 10}


def test_tenants_beyond_the_bound_are_counted_together() -> None:
    seen = witness()
    seen.tenants = {f"tenant-{n}": Counts() for n in range(10_000)}

    answer(seen, Caller("t1", "one more", None), 10.0)

    assert len(seen.tenants) == 10_001
    assert seen.tenants["(others)"].answered == 1


def test_single_calls_are_paged_and_the_oldest_go() -> None:
    seen = witness(kept=3)
    for number in range(5):
        answer(seen, Caller(f"t{number}", "acme", f"t{number}/1"), float(number))

    page: dict[str, Any] = seen.page(0, 2)

    assert [call["task"] for call in page["calls"]] == ["t2", "t3"]
    assert (page["next"], page["ended"]) == (4, 5)
    assert page["calls"][0]["at_unix"] == 1_000_002.0
    assert seen.page(5, 10) == {"calls": [], "next": 5, "ended": 5}


def test_examples_of_duplicates_are_bounded() -> None:
    seen = witness()
    for number in range(MOST_EXAMPLES + 5):
        for _ in range(2):
            answer(seen, Caller("t", "acme", f"t/{number}"), 1.0)

    told = report(seen)
    assert (told["duplicates"], len(told["duplicate_examples"])) == (MOST_EXAMPLES + 5, MOST_EXAMPLES)


def test_a_series_keeps_the_last_spans() -> None:
    series = Series(1, kept=2, origin_unix=1000.0)
    series.add(0.2, calls=1)
    series.add(5.0, calls=1, tokens=7)
    series.add(5.9, calls=1)
    series.add(6.0, refused=1)

    assert series.rows() == [
        {"at_unix": 1005, "calls": 2, "admitted": 0, "refused": 0, "tokens": 7},
        {"at_unix": 1006, "calls": 0, "admitted": 0, "refused": 1, "tokens": 0},
    ]
    assert len(series.rows(1006)) == 1


def test_a_ring_numbers_its_rows() -> None:
    ring = Ring(2)
    for letter in "abc":
        ring.add((letter,))

    assert ring.page(0, 10) == [(1, ("b",)), (2, ("c",))]
    assert ring.page(2, 10) == [(2, ("c",))]
