from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference import receipts_state as receipts
from callstream.agents.inference.call import Reply
from callstream.agents.inference.receipts_state import MOST_RECEIPTS, MOST_TEXT_BYTES, Receipt, State
from callstream.streams import strict_json
from callstream.streams.event import Json, Usage

REPLY = Reply(
    "A mug.", "stop", Usage(model="writer", endpoint="local", calls=1, tokens_in=12, tokens_out=3), ("a note",)
)


def started(flight: str = "run-a.1") -> Receipt:
    return Receipt(state=State.STARTED, started=10.0, flight=flight, endpoint="local")


def found(row: Json | None, call_id: str = "c") -> Receipt:
    receipt = receipts.receipt_of(row, call_id)
    assert receipt is not None
    return receipt


def test_an_answer_comes_back_as_it_was_given() -> None:
    row = receipts.answer(receipts.start(None, "c", started()), "c", REPLY)

    assert receipts.reply_in(found(row)) == REPLY
    assert found(row).flight == "run-a.1"


def test_what_else_a_step_remembers_stays() -> None:
    row = receipts.answer(receipts.start({"mine": [1]}, "c", started()), "c", REPLY)

    assert row["mine"] == [1]


def test_a_start_that_finds_an_open_start_of_another_flight_is_a_repeat() -> None:
    row = receipts.start(receipts.start(None, "c", started("run-a.1")), "c", started("run-b.1"))

    assert found(row).repeats == 1
    assert found(receipts.start(row, "c", started("run-b.2"))).repeats == 2


def test_two_requests_that_were_under_way_at_once_are_two_repeats() -> None:
    twice = started("run-a.1").model_copy(update={"requests": 2})
    row = receipts.start(receipts.start(None, "c", started("run-a.1")), "c", twice)
    # the first one is tried again: there may be two all the same
    row = receipts.start(row, "c", started("run-a.1"))

    assert found(row).repeats == 0
    assert found(receipts.start(row, "c", started("run-b.1"))).repeats == 2


def test_a_start_after_a_failure_that_was_told_is_no_repeat() -> None:
    failed = receipts.fail(receipts.start(None, "c", started("run-a.1")), "c")

    assert found(receipts.start(failed, "c", started("run-b.1"))).repeats == 0


def test_a_repeat_is_not_forgotten_by_a_later_failure() -> None:
    repeated = receipts.start(receipts.start(None, "c", started("a.1")), "c", started("b.1"))

    row = receipts.start(receipts.fail(repeated, "c"), "c", started("b.2"))

    assert found(row).repeats == 1


def test_an_answered_receipt_is_never_started_or_failed_again() -> None:
    row = receipts.answer(receipts.start(None, "c", started()), "c", REPLY)

    assert receipts.start(row, "c", started("run-b.1")) == row
    assert receipts.fail(row, "c") is None


def test_a_failure_without_a_start_leaves_nothing() -> None:
    assert receipts.fail(None, "c") is None
    assert receipts.fail({"mine": 1}, "c") is None


def test_an_answer_whose_start_was_dropped_is_kept() -> None:
    assert receipts.reply_in(found(receipts.answer(None, "c", REPLY))) == REPLY


def test_long_texts_push_out_the_oldest() -> None:
    row = None
    for number in range(4):
        row = receipts.answer(row, str(number), Reply("x" * (MOST_TEXT_BYTES // 3)))

    assert row is not None
    assert list(row[receipts.CALLS]) == ["1", "2", "3"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "answer", "fail"]), st.integers(0, 25), st.sampled_from(["a.1", "a.2", "b.1"])),
    max_size=60,
)


def fold(row: Json | None, step: tuple[str, int, str]) -> Json | None:
    what, number, flight = step
    match what:
        case "start":
            return receipts.start(row, str(number), started(flight))
        case "answer":
            return receipts.answer(row, str(number), REPLY)
        case _:
            changed = receipts.fail(row, str(number))
            return row if changed is None else changed


@given(STEPS)
def test_each_fold_done_twice_is_done_once_and_rows_stay_bounded_json(steps: list[tuple[str, int, str]]) -> None:
    row: Json | None = None
    for step in steps:
        row = fold(row, step)
        assert fold(row, step) == row
        if row is not None:
            assert len(row[receipts.CALLS]) <= MOST_RECEIPTS
            assert strict_json.loads(strict_json.dumps(row), 1_000_000) == row


@given(STEPS)
def test_the_newest_receipt_is_always_kept(steps: list[tuple[str, int, str]]) -> None:
    row: Json | None = None
    for step in steps:
        row = fold(row, step)
        if step[0] != "fail":
            assert receipts.receipt_of(row, str(step[1])) is not None


@given(STEPS)
def test_no_answer_is_lost_while_there_is_room(steps: list[tuple[str, int, str]]) -> None:
    row: Json | None = None
    answered = set()
    for what, number, flight in steps:
        number %= MOST_RECEIPTS
        row = fold(row, (what, number, flight))
        answered |= {number} if what == "answer" else set()

    assert all(found(row, str(number)).state is State.ANSWERED for number in answered)


def test_what_a_step_has_taken_counts_its_answers_and_what_was_left_open() -> None:
    row = receipts.answer(receipts.start(None, "t/2/call-1", started()), "t/2/call-1", REPLY)
    row = receipts.start(receipts.start(row, "t/2/call-2", started("a")), "t/2/call-2", started("b"))
    row = receipts.start(row, "t/3/call-1", started())
    failed = receipts.fail(receipts.start(row, "t/2/call-3", started()), "t/2/call-3")

    taken = receipts.taken(failed, "t/2/")

    assert taken == Usage(model="writer", endpoint="local", calls=3, tokens_in=12, tokens_out=3)
    assert receipts.taken(row, "t/9/") is None
    assert receipts.taken(None, "t/2/") is None
    open_one = receipts.taken(receipts.start(None, "t/1/call-1", started()), "t/1/")
    assert open_one == Usage(endpoint="local", calls=1)


def test_a_draft_drops_no_receipt() -> None:
    row = receipts.answer(receipts.start(None, "a", started()), "a", Reply("x" * (MOST_TEXT_BYTES - 10)))
    row = receipts.start(row, "b", started())

    kept = receipts.draft(row, "b", "run-a.1", ("y" * 10, "digest"))
    assert (found(kept, "b").draft, found(kept, "b").parts) == ("y" * 10, 1)
    assert receipts.draft(kept, "b", "run-a.1", ("y" * 11, "digest")) is None


def test_parts_are_counted_over_all_calls_of_a_task_and_another_flights_are_none() -> None:
    row = receipts.start(receipts.start(None, "a", started()), "b", started("run-b.1"))
    both = receipts.draft(receipts.draft(row, "a", "run-a.1", ("A", "digest")), "b", "run-b.1", ("B", "digest"))

    assert [(found(both, name).draft, found(both, name).parts) for name in "ab"] == [("A", 1), ("B", 2)]
    assert receipts.draft(row, "a", "run-b.1", ("late", "digest")) is None
