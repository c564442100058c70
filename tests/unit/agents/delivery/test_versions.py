from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.delivery.versions import (
    MOST_KEPT,
    Version,
    Versions,
    dumped,
    loaded,
    put,
    standing,
    without,
    wrote,
)


def version(task: str, order: int, keeps: bool = True, step: str = "s") -> Version:
    return Version(f"{order:05d}", task, step, keeps, {"of": task})


def folded(*writes: Version) -> Versions:
    versions: Versions = ()
    for write in writes:
        versions = put(versions, write)
    return versions


def stands(versions: Versions) -> str | None:
    found = standing(versions)
    return None if found is None else found.task


def test_the_newest_stands_in_whichever_order_they_come_and_however_often() -> None:
    writes = version("a", 1), version("b", 2), version("c", 3)
    for order in permutations(writes):
        assert folded(*order, *order) == folded(*writes)
    assert stands(folded(*writes)) == "c"


def test_a_write_that_is_taken_back_leaves_the_newest_other_in_any_order_and_twice() -> None:
    versions = folded(version("a", 1), version("b", 2), version("c", 3))
    assert stands(without(versions, "c", "s")) == "b"
    assert stands(without(versions, "b", "s")) == "c"
    assert stands(without(without(versions, "b", "s"), "c", "s")) == "a"
    assert without(without(versions, "c", "s"), "c", "s") == without(versions, "c", "s")
    assert without(versions, "z", "s") == versions
    assert standing(without(folded(version("a", 1)), "a", "s")) is None


def test_one_that_does_not_keep_stays_and_what_is_older_is_forgotten() -> None:
    versions = folded(version("a", 1), version("b", 2, keeps=False), version("c", 3))
    assert [one.task for one in versions] == ["b", "c"]
    assert stands(without(without(versions, "c", "s"), "b", "s")) == "b"
    assert folded(version("b", 2, keeps=False), version("a", 1)) == folded(version("b", 2, keeps=False))


def test_a_step_that_is_taken_again_replaces_what_it_wrote_and_a_replay_of_the_first_does_not() -> None:
    first, second = version("a", 1), version("a", 2)
    assert folded(first, second, first) == (second,)
    assert wrote((second,), "a", "s")
    assert not wrote((second,), "a", "other")


def test_few_are_kept() -> None:
    versions = folded(*(version(f"t-{number}", number) for number in range(MOST_KEPT + 5)))
    assert [one.task for one in versions] == [f"t-{number}" for number in range(5, MOST_KEPT + 5)]


def test_what_is_dumped_is_loaded() -> None:
    versions = folded(version("a", 1), version("b", 2))
    assert loaded(dumped(versions)) == versions


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=12), st.randoms())
def test_any_order_of_writes_comes_to_the_same(given: list[tuple[int, bool]], random: object) -> None:
    writes = [version(f"t-{place}", order, keeps) for place, (order, keeps) in enumerate(given)]
    shuffled = sorted(writes, key=lambda _: random.random())  # type: ignore[attr-defined]
    one, other = folded(*writes), folded(*shuffled)
    assert {each.order for each in one[-1:]} == {each.order for each in other[-1:]}
