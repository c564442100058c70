"""Calls that wait for a budget: apart, by budget, in their order, with bounded work."""

from callstream.agents.inference.admission.fairness import Waiting
from callstream.agents.inference.admission.stopped import FEW, LOOK_SECONDS, Stopped


def waiting(name: str, deadline: float | None = None) -> Waiting:
    return Waiting(name, "acme", "normal", 10, 0.0, deadline, False)


def test_a_group_goes_together_and_in_order_once_its_first_may() -> None:
    stopped = Stopped()
    for name in ("a-1", "b-1", "a-2"):
        stopped.put((name[0],), waiting(name))
    assert [one.id for one in stopped.ready(lambda one: one.id == "a-1", 1.0)] == ["a-1", "a-2"]
    assert [(accounts, one.id) for accounts, one in stopped] == [(("b",), "b-1")]
    stopped.discard("b-1")
    stopped.discard("b-1")
    assert len(stopped) == 0


def test_of_many_groups_a_few_are_asked_each_time_and_all_of_them_now_and_then() -> None:
    stopped = Stopped()
    for number in range(10):
        stopped.put((str(number),), waiting(str(number)))
    asked: list[str] = []

    def never(one: Waiting) -> bool:
        asked.append(one.id)
        return False

    stopped.ready(never, 1.0)
    assert len(asked) == 10
    for _ in range(10):
        stopped.ready(never, 1.0 + LOOK_SECONDS / 2)
    assert len(asked) == 10 + 10 * FEW
    assert set(asked[10:]) == set(asked[:10])
    stopped.ready(never, 1.0 + LOOK_SECONDS)
    assert len(asked) == 20 + 10 * FEW
    assert len(stopped.all()) == 10


def test_who_is_late_is_found_every_so_often() -> None:
    stopped = Stopped()
    stopped.put(("a",), waiting("soon", 2.0))
    stopped.put(("a",), waiting("later", 9.0))
    stopped.put(("a",), waiting("whenever"))
    assert stopped.late(1.9) == []
    assert stopped.late(2.1) == []
    assert [one.id for one in stopped.late(1.9 + LOOK_SECONDS)] == ["soon"]
    assert len(stopped) == 2
