"""Counters of many keys in little memory."""

from hypothesis import given
from hypothesis import strategies as st

from callstream.stub.counters import Counters, Counts

small = st.integers(0, 1000)
additions = st.lists(st.tuples(st.sampled_from("abcd"), st.builds(Counts, small, small, small, small, small)))


@given(additions)
def test_counts_are_sums_by_key(steps: list[tuple[str, Counts]]) -> None:
    counters, model = Counters(10), dict[str, list[int]]()

    for key, more in steps:
        counters.add(key, more)
        model[key] = [a + b for a, b in zip(model.get(key, [0] * 5), more, strict=True)]

    assert {key: list(counters.get(key)) for key in model} == model
    assert len(counters) == len(model)


def test_the_key_used_longest_ago_is_forgotten() -> None:
    counters = Counters(2)
    for key in ("a", "b", "a", "c"):
        counters.add(key, Counts(calls=1))

    assert counters.get("a").calls == 2
    assert counters.get("b") == Counts()
    assert (len(counters), counters.forgotten) == (2, 1)


def test_large_counts_do_not_run_into_each_other() -> None:
    counters = Counters(2)
    counters.add("a", Counts(calls=2**32 - 1, paid=3, tokens=2**40))

    assert counters.add("a", Counts(answered=1)) == Counts(2**32 - 1, 1, 3, 0, 2**40)
    assert counters.get("a").plus(Counts(refused=2)).refused == 2
