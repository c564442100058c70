import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams import strict_json
from callstream.streams.event import LAST_SECOND, Hop, Usage
from callstream.tables.latency import ACCURACY, SIZES, Window, WindowKey, decode_key, merged, windows_of
from tests.support.events import HOPS, NAMES

MODELS = st.sampled_from(["", "gpt", "a|b", "|", "z-ai/glm|4", "模型", "\n\0"])
SPANS = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)
KEYS = st.builds(WindowKey, st.sampled_from(list(SIZES)), st.integers(0, LAST_SECOND), NAMES, MODELS)


def a_hop(ended: float, seconds: float = 1.0, model: str = "") -> Hop:
    usage = Usage(model=model) if model else None
    return Hop(step="copy", service="infer", started=max(0.0, ended - seconds), ended=ended, usage=usage)


def a_window(*spans: float) -> Window:
    window = Window()
    for seconds in spans:
        window.add(seconds, failed=seconds > 10)
    return window


@given(KEYS)
def test_a_key_is_taken_apart_as_it_was_put_together(key: WindowKey) -> None:
    assert decode_key(key.encode()) == key


@given(st.lists(KEYS, min_size=2))
def test_keys_stand_in_the_order_of_size_and_time(keys: list[WindowKey]) -> None:
    by_bytes = [decode_key(raw) for raw in sorted(key.encode() for key in keys)]
    assert [(key.size, key.start) for key in by_bytes] == sorted((key.size, key.start) for key in keys)


@given(SPANS, SPANS)
def test_the_parts_of_a_window_merge_into_the_whole(some: list[float], others: list[float]) -> None:
    whole, merge = a_window(*some, *others), a_window(*some)
    merge.merge(a_window(*others))
    assert (merge.count, merge.errors) == (whole.count, whole.errors)
    for share in (0.0, 0.5, 0.95, 0.99, 1.0):
        assert merge.quantile(share) == pytest.approx(whole.quantile(share))


@given(SPANS)
def test_a_window_comes_out_of_its_row_as_it_went_in(spans: list[float]) -> None:
    window = a_window(*spans)
    row = strict_json.readable(window.to_row(), 100_000)
    again = Window.from_row(row)
    assert (again.count, again.errors) == (window.count, window.errors)
    for share in (0.0, 0.5, 1.0):
        assert again.quantile(share) == pytest.approx(window.quantile(share))
    again.add(5.0, failed=True)
    assert (again.count, again.errors) == (window.count + 1, window.errors + 1)


def test_quantiles_are_as_accurate_as_they_say() -> None:
    rng = random.Random(1)
    spans = sorted(rng.lognormvariate(0, 2) for _ in range(2_001))
    window = a_window(*spans)
    for share in (0.5, 0.95, 0.99):
        assert window.quantile(share) == pytest.approx(spans[round(share * 2_000)], rel=1.5 * ACCURACY)


def test_an_empty_window_says_nothing_and_a_clock_that_went_back_says_no_time() -> None:
    assert Window().quantile(0.5) == 0.0
    assert Window.from_row(Window().to_row()).quantile(0.99) == 0.0
    assert 0 <= a_window(-5.0, 0.0).quantile(1.0) < 0.001


def test_a_window_stays_small_whatever_it_counts() -> None:
    window = a_window(*(10.0 ** (number % 13 - 6) for number in range(2_000)))
    assert len(strict_json.dumps(window.to_row())) < 10_000


def test_a_hop_is_in_the_windows_of_the_moment_it_ended() -> None:
    assert list(windows_of(a_hop(7_265.0, model="gpt"), now=7_266.0)) == [
        WindowKey(60, 7_260, "copy", "gpt"),
        WindowKey(600, 7_200, "copy", "gpt"),
        WindowKey(3_600, 7_200, "copy", "gpt"),
    ]


def test_what_is_no_longer_kept_is_not_counted() -> None:
    hop = a_hop(7_265.0)
    assert [key.size for key in windows_of(hop, now=7_260 + 60 + 3_600.0)] == [60, 600, 3_600]
    assert [key.size for key in windows_of(hop, now=7_260 + 60 + 3_600.1)] == [600, 3_600]
    assert [key.size for key in windows_of(hop, now=7_200 + 600 + 6 * 3_600.1)] == [3_600]
    assert list(windows_of(hop, now=7_200 + 3_600 + 48 * 3_600.1)) == []


def test_what_a_wrong_clock_says_is_to_come_is_not_counted() -> None:
    assert len(list(windows_of(a_hop(7_265.0), now=7_210.0))) == 3
    assert list(windows_of(a_hop(LAST_SECOND), now=7_265.0)) == []


@given(HOPS, st.floats(0, 2e9))
def test_every_hop_that_an_event_may_carry_can_be_counted(hop: Hop, now: float) -> None:
    for key in windows_of(hop, now):
        assert not key.expired(now)
        assert decode_key(key.encode()) == key
    window = Window()
    window.add(hop.ended - hop.started, failed=False)
    assert Window.from_row(window.to_row()).count == 1


def test_the_windows_of_several_partitions_become_one() -> None:
    key, other = WindowKey(60, 120, "copy", "a|b"), WindowKey(60, 120, "copy", "")
    rows = [(key.encode(), a_window(1.0, 2.0).to_row()), (other.encode(), a_window(9.0).to_row())]
    whole = merged([*rows, (key.encode(), a_window(3.0, 40.0).to_row())])
    assert {name: (window.count, window.errors) for name, window in whole.items()} == {key: (4, 1), other: (1, 0)}
