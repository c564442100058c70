from dataclasses import replace
from typing import Any

import pytest

from tests.support.judge import Disturbance, Evidence, Order, Row, judge, recovery

STEPS = ("intake", "copy", "catalogue")
TASKS = ("a", "b")
KILL = Disturbance("kill", "worker-a", 100.0, in_flight=2)


def written(task: str, **changes: Any) -> Row:
    row = Row(task, "catalogue", f"product-{task}", f"Mug {task}", "A mug.", accepted=99.0, written=103.0)
    return replace(row, **changes)


def evidence(**changes: Any) -> Evidence:
    """A run in which all went well, but for the changes."""
    well = Evidence(
        orders=[Order(task, f"product-{task}", f"Mug {task}", accepted=99.0) for task in TASKS],
        disturbances=[KILL],
        states=dict.fromkeys(TASKS, "finished"),
        catalogue=[written(task) for task in TASKS],
        inference=[Row(task, "copy") for task in TASKS],
        chain=[Row(task, step) for task in TASKS for step in STEPS],
        steps=STEPS,
        model_step="copy",
        calls=3,
        paid_again=1,
        events={"infer": ["a/1", "b/1", "a/1"]},
        dead_letters=0,
        lag={"callstream-infer": 0},
    )
    return replace(well, **changes)


def test_a_run_in_which_all_went_well_has_no_faults() -> None:
    verdict = judge(evidence())
    assert verdict.faults == ()
    expected = {
        "tasks accepted": 2,
        "kills": 1,
        "broker restarts": 0,
        "lost": 0,
        "duplicate rows": 0,
        "repeated calls": 1,
        "in flight at the kills": 2,
        "redelivered": 1,
        "recovery seconds": [3.0],
        "dead letters": 0,
        "lag": 0,
    }
    assert {name: verdict.figures[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"catalogue": [written("a")]}, "1 lost: b has no row in the catalogue (state finished)"),
        ({"catalogue": [written("a"), written("b", product="product-a")]}, "b has a row of another product"),
        ({"catalogue": [written("a"), written("b", text="")]}, "without a text"),
        ({"states": {"a": "finished", "b": "running"}}, "1 lost: b is running"),
        ({"states": {"a": "finished"}}, "1 lost: b is None"),
        ({"catalogue": [written("a"), written("b"), written("b")]}, "catalogue has 2 rows of b"),
        ({"inference": [Row("a", "copy"), Row("a", "copy"), Row("b", "copy")]}, "inference_log has 2 rows of a copy"),
        ({"catalogue": [written("a"), written("b"), written("z")]}, "catalogue has a row of z, which was never"),
        ({"inference": [Row("a", "copy")]}, "b lacks its model call in inference_log"),
        ({"chain": [Row(task, step) for task in TASKS for step in STEPS[1:]]}, "a lacks intake in chain_log"),
        ({"paid_again": 3}, "3 calls repeated, 2 were in flight at the kills"),
        ({"calls": 1}, "1 model calls are too few"),
        ({"dead_letters": 4}, "4 dead letters"),
        ({"lag": {"callstream-infer": 7}}, "lag is left: {'callstream-infer': 7}"),
        ({"disturbances": []}, "nothing was killed"),
        ({"disturbances": [replace(KILL, kind="restart")]}, "nothing was killed"),
        ({"orders": [], "catalogue": [], "chain": [], "inference": [], "states": {}}, "nothing succeeded"),
        ({"states": dict.fromkeys(TASKS, "failed")}, "nothing succeeded"),
        (
            {"orders": [*evidence().orders, Order("c", "product-c", "Mug c", accepted=None)]},
            "1 tasks were never accepted: c",
        ),
    ],
)
def test_what_is_not_as_it_must_be_is_named(changes: dict[str, Any], told: str) -> None:
    assert any(told in fault for fault in judge(evidence(**changes)).faults)


def test_an_orderly_restart_excuses_no_repeated_call() -> None:
    restart = Disturbance("restart", "broker", 100.0, in_flight=5)
    crash = Disturbance("crash", "broker", 100.0, in_flight=3)
    told = judge(evidence(disturbances=[KILL, restart], paid_again=3)).faults
    assert told == ("3 calls repeated, 2 were in flight at the kills",)
    assert judge(evidence(disturbances=[KILL, crash], paid_again=3)).faults == ()


def test_a_task_that_was_never_accepted_is_not_lost() -> None:
    orders = [*evidence().orders, Order("c", "product-c", "Mug c", accepted=None)]
    verdict = judge(evidence(orders=orders))
    assert (verdict.figures["lost"], verdict.figures["tasks submitted"], verdict.figures["tasks accepted"]) == (0, 3, 2)


def test_recovery_lasts_until_all_that_was_accepted_before_is_written() -> None:
    orders = [Order("a", "", "", 99.0), Order("b", "", "", 99.9), Order("c", "", "", 100.1)]
    rows = [written("a", written=99.5), written("b", written=107.26), written("c", written=120.0)]
    assert recovery(KILL, orders, rows) == 7.3
    assert recovery(KILL, orders[:1], rows) == 0.0
    assert recovery(KILL, [], rows) == 0.0


def test_many_faults_of_a_kind_are_one_sentence() -> None:
    orders = [Order(f"t{number}", "", "", 99.0) for number in range(9)]
    [lost] = [fault for fault in judge(evidence(orders=[*evidence().orders, *orders])).faults if "lost" in fault]
    assert lost.startswith("9 lost: t0 has no row")
    assert lost.endswith("and 4 more")


def test_the_table_has_a_line_for_each_figure() -> None:
    table = judge(evidence()).table()
    assert "tasks submitted         2" in table
    assert "kill worker-a (2 in flight)" in table
