"""A dead letter as `callstream dead show` tells of it."""

from typing import Any

from callstream.cli.client import who
from callstream.cli.dead import begun, letter_text
from callstream.cli.status import moment

TRIED = {"run": 0, "attempt": 1, "ended": 10.0, "kind": "busy", "message": "full", "endpoint": "e"}
DONE = {"at": 20.0, "by": "kim@desk", "action": "redrive", "run": 1, "reason": "there is room"}
REFUSED = {"at": 30.0, "by": "kim@desk", "action": "redrive", "reason": "again", "refused": "its task has gone on"}
LETTER: dict[str, Any] = {
    "task": "mug-1",
    "tenant": "acme",
    "state": "redriven",
    "edited": False,
    "chain": "shop",
    "version": 1,
    "step": "copy",
    "run": 1,
    "kind": "busy",
    "message": "full",
    "from": None,
    "tried": [TRIED, TRIED | {"run": 1, "ended": 25.0}],
    "audit": [DONE, REFUSED],
}


def test_each_line_says_when_and_in_which_run() -> None:
    lines = letter_text(LETTER).splitlines()
    assert f"  {moment(10.0)} run 0 attempt 1: busy at e: full" in lines
    assert f"  {moment(25.0)} run 1 attempt 1: busy at e: full" in lines
    assert f"  {moment(20.0)} redrive by kim@desk, run 1: there is room" in lines
    assert f"  {moment(30.0)} redrive by kim@desk: refused: its task has gone on" in lines


def test_what_became_of_the_task_is_told_where_it_is_known() -> None:
    assert letter_text(LETTER, {"state": "finished", "run": 2}).endswith("\nthe task is finished, run 2")
    assert "the task is" not in letter_text(LETTER)


def test_who_gives_a_command_has_a_name_within_bounds() -> None:
    user, _, host = who().partition("@")
    assert user
    assert host
    assert len(who()) <= 200


def test_a_job_that_nobody_waits_for_says_where_unknown_ids_are_told() -> None:
    assert begun("j-1", ()) == "job j-1: callstream dead jobs show j-1"
    told = begun("j-1", ("mug-1", "nope"))
    assert told.startswith("job j-1 of 2 ids: only the job tells how many of them have a letter that waits")
    assert told.endswith("callstream dead jobs show j-1")
