"""What became of tasks, judged by what was expected of them."""

from typing import Any

from callstream.cli.demo.figures import figures, is_good, recognised
from callstream.cli.follow import Sent, Tally, summary
from callstream.cli.orders import Line, Order


def sent(task: str, expected: str | None, state: str | None, **row: Any) -> Sent:
    line = Line(chain="c", input={}, expect={} if expected is None else {"end": expected, "colour": "red"})
    steps: list[Any] = []
    return Sent(Order(line, 1), task, None if state is None else {"state": state, "steps": steps, **row})


def test_all_as_expected_is_good() -> None:
    tally = Tally([sent("a", None, "finished"), sent("b", "held", "held"), sent("c", "rejected", "rejected")])
    assert is_good(tally)
    assert summary(tally) == ["3 tasks: 1 finished, 1 held, 1 rejected"]
    assert figures(tally, 2, 1.234).as_json() == {
        "tasks": 3,
        "finished": 1,
        "held": 1,
        "rejected": 1,
        "failed": 0,
        "lost": 0,
        "model_calls": 2,
        "seconds": 1.2,
    }


def test_nothing_sent_is_not_good() -> None:
    assert not is_good(Tally())


def test_each_that_went_otherwise_is_named_with_its_reason() -> None:
    failure = {"kind": "timeout", "step": "copy", "message": "no answer"}
    tally = Tally(
        [
            sent("a", "finished", "failed", failure=failure),
            sent("b", "finished", None),
            sent("c", "rejected", "running", next={"step": "copy", "service": "infer"}),
            sent("d", "finished", "held", held="a word"),
        ]
    )
    assert not is_good(tally)
    assert tally.lost == 2
    assert summary(tally)[1:] == [
        "a: failed, expected finished: timeout in copy: no answer",
        "b: lost, expected finished: the gateway knows nothing of it",
        "c: running, expected rejected: waits for infer",
        "d: held, expected finished: a word",
    ]
    assert summary(tally, most=1)[-1] == "and 3 more that did not end as expected"


def test_attributes_are_compared_for_finished_tasks_only() -> None:
    right = sent("a", "finished", "finished", result={"attributes": {"colour": "red"}})
    wrong = sent("b", "finished", "finished", result={"attributes": {"colour": "blue"}})
    held = sent("c", "held", "held", result=None)
    assert recognised(Tally([right, wrong, held])) == (1, 2)
