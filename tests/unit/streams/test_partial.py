from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.event import TASK_PARTIAL, Json
from callstream.streams.partial import MOST_PARTS, MOST_SHOWN, PARTIAL, remark, told_in
from callstream.streams.wire import decode, encode
from tests.support.events import an_event

EVENT = an_event(version=1, sequence=3)


@given(st.text(max_size=30), st.integers(1, 10**9))
def test_a_part_comes_over_the_log_as_it_was_written(text: str, number: int) -> None:
    record = encode(remark(EVENT, number, "copy", text), "callstream.notified")
    event = decode(record.value, record.headers)

    assert event.type == TASK_PARTIAL
    assert (event.key, event.body.submission.input, event.body.trail) == (EVENT.key, {}, ())
    assert told_in(event) == {
        "step": "copy",
        "start": 0,
        "characters": len(text),
        "text": text,
        "run": EVENT.run,
        "sequence": 3,
        "part": min(number, MOST_PARTS),
    }


def test_of_a_long_text_the_end_is_told_and_where_it_begins() -> None:
    told = told_in(remark(EVENT, 1, "copy", "a" * 100 + "b" * MOST_SHOWN))

    assert told is not None
    assert (told["start"], told["characters"], told["text"]) == (100, MOST_SHOWN + 100, "b" * MOST_SHOWN)


def test_each_part_has_an_id_of_its_own() -> None:
    assert remark(EVENT, 1, "copy", "a").id != remark(EVENT, 2, "copy", "ab").id


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"text": 7, "step": "copy", "start": 0, "characters": 1},
        {"text": "a", "step": None, "start": 0, "characters": 1},
        {"text": "a", "step": "copy", "start": -1, "characters": 1},
        {"text": "a", "step": "copy", "start": True, "characters": 1},
        {"text": "a" * (MOST_SHOWN + 1), "step": "copy", "start": 0, "characters": 1},
    ],
)
def test_a_remark_that_others_wrote_tells_nothing_that_nobody_could_show(output: Json) -> None:
    event = remark(EVENT, 1, "copy", "a")

    assert told_in(replace(event, body=event.body.model_copy(update={"outputs": {PARTIAL: output}}))) is None
    assert told_in(event.with_body(outputs={})) is None
