"""Go, wait or never: what is in the way is named, and the least loaded endpoint is taken."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.admission.allowance import Amount, Unit
from callstream.agents.inference.admission.decide import Endpoint, Go, Never, Reason, Wait, decide

NOW = 1_000.0
AMOUNT = Amount(80, 20)
FREE = Endpoint("a", weight=1, in_flight=0, places=4)


def test_a_free_endpoint_has_it() -> None:
    assert decide(AMOUNT, None, [FREE], (), NOW) == Go("a")


@pytest.mark.parametrize(
    ("changes", "wait"),
    [
        ({"places": 0}, Wait(Reason.CONCURRENCY, "a")),
        ({"opens": NOW + 5, "unit": Unit.TOKENS}, Wait(Reason.TOKENS, "a", NOW + 5)),
        ({"opens": NOW + 5, "unit": Unit.TOKENS_OUT}, Wait(Reason.TOKENS, "a", NOW + 5)),
        ({"opens": NOW + 5, "unit": Unit.REQUESTS}, Wait(Reason.REQUESTS, "a", NOW + 5)),
        ({"opens": math.inf}, Wait(Reason.SHARE, "a")),
        ({"closed_until": NOW + 2}, Wait(Reason.RETRY_AFTER, "a", NOW + 2)),
        ({"breaker_opens": NOW + 3}, Wait(Reason.BREAKER, "a", NOW + 3)),
        ({"breaker_opens": NOW + 3, "closed_until": NOW + 9}, Wait(Reason.RETRY_AFTER, "a", NOW + 9)),
        ({"closed_until": NOW + 2, "places": 0}, Wait(Reason.RETRY_AFTER, "a", NOW + 2)),
    ],
)
def test_what_is_in_the_way_is_named(changes: dict[str, object], wait: Wait) -> None:
    assert decide(AMOUNT, None, [replace(FREE, **changes)], (), NOW) == wait  # type: ignore[arg-type]


def test_what_is_over_is_in_nobodys_way() -> None:
    past = replace(FREE, opens=NOW, closed_until=NOW, breaker_opens=NOW - 1)
    assert decide(AMOUNT, None, [past], (), NOW) == Go("a")


def test_of_several_the_one_with_the_least_load_for_its_weight() -> None:
    light, heavy = replace(FREE, name="light", in_flight=3), replace(FREE, name="heavy", in_flight=6, weight=4)
    assert decide(AMOUNT, None, [light, heavy], (), NOW) == Go("heavy")


def test_one_that_failed_the_call_and_one_of_weight_0_come_last() -> None:
    other, last = replace(FREE, name="b", in_flight=3), replace(FREE, name="z", weight=0)
    assert decide(AMOUNT, None, [FREE, other, last], {"a"}, NOW) == Go("b")
    assert decide(AMOUNT, None, [FREE, replace(other, places=0), last], {"a", "b"}, NOW) == Go("z")
    assert decide(AMOUNT, None, [replace(other, places=0), last], (), NOW) == Go("z")


def test_of_several_that_are_closed_the_first_to_open_is_waited_for() -> None:
    ends = [replace(FREE, name=name, closed_until=NOW + after) for name, after in (("a", 9), ("b", 4), ("c", 6))]
    assert decide(AMOUNT, None, ends, (), NOW) == Wait(Reason.RETRY_AFTER, "b", NOW + 4)


def test_what_fits_no_context_never_goes() -> None:
    decision = decide(AMOUNT, None, [replace(FREE, context_tokens=99)], (), NOW)
    assert isinstance(decision, Never)
    assert (str(decision.kind), "takes over 99" in decision.message) == ("context-too-long", True)
    assert decide(AMOUNT, None, [replace(FREE, context_tokens=99), replace(FREE, name="b")], (), NOW) == Go("b")


def test_late_work_is_not_started() -> None:
    for deadline, one in ((NOW, FREE), (NOW + 4, replace(FREE, closed_until=NOW + 5))):
        decision = decide(AMOUNT, deadline, [one], (), NOW)
        assert isinstance(decision, Never)
        assert str(decision.kind) == "deadline"


def test_a_deadline_that_may_be_kept_is_waited_for() -> None:
    closed = replace(FREE, closed_until=NOW + 5)
    assert isinstance(decide(AMOUNT, NOW + 4, [closed, replace(FREE, name="b", places=0)], (), NOW), Wait)
    assert isinstance(decide(AMOUNT, NOW + 6, [closed], (), NOW), Wait)


moments = st.none() | st.floats(NOW - 100, NOW + 100)


@given(
    st.lists(
        st.builds(
            Endpoint,
            name=st.sampled_from("abc"),
            weight=st.integers(0, 3),
            in_flight=st.integers(0, 9),
            places=st.integers(-2, 3),
            context_tokens=st.none() | st.integers(1, 200),
            opens=moments,
            unit=st.sampled_from(Unit),
            closed_until=moments,
            breaker_opens=moments,
        ),
        min_size=1,
        max_size=4,
    ),
    moments,
)
def test_nothing_goes_where_anything_is_in_the_way(endpoints: list[Endpoint], deadline: float | None) -> None:
    decision = decide(AMOUNT, deadline, endpoints, (), NOW)
    may = [
        one
        for one in endpoints
        if one.places > 0
        and (one.context_tokens or 100) >= 100
        and all(moment is None or moment <= NOW for moment in (one.opens, one.closed_until, one.breaker_opens))
    ]
    late = deadline is not None and deadline <= NOW
    assert isinstance(decision, Go) == bool(may and not late)
    if isinstance(decision, Go):
        assert decision.endpoint in {one.name for one in may}
    if isinstance(decision, Wait) and decision.until is not None:
        assert decision.until > NOW
