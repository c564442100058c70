from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError

from callstream.streams.event import LAST_SECOND, Body, Event, Failure, Hop, Submission, Usage
from tests.support.events import DIGEST, EVENTS, an_event

SUBMISSION = {"chain": "shop", "input": {}}
HOP = {"step": "copy", "service": "infer", "started": 1.0, "ended": 2.0}


@given(EVENTS)
def test_the_same_step_of_the_same_task_in_the_same_attempt_has_the_same_id(event: Event) -> None:
    again = replace(event, time=event.time + 1, type="other").with_body(outputs={"more": {}})
    assert (again.id, again.key) == (event.id, event.key)
    assert replace(event, sequence=event.sequence + 1).id != event.id
    assert replace(event, attempt=event.attempt + 1).id != event.id
    assert replace(event, task=event.task + "x").id != event.id


def test_an_event_changes_only_into_another() -> None:
    event = an_event()
    changed = event.with_body(outputs={"copy": {"text": "Hm."}})
    assert (event.body.outputs, changed.body.outputs) == ({}, {"copy": {"text": "Hm."}})
    assert event.input == {"title": "mug"}
    with pytest.raises(FrozenInstanceError):
        event.sequence = 2  # type: ignore[misc]  # what must not be possible


@given(EVENTS)
def test_what_is_changed_is_as_if_it_were_made_anew(event: Event) -> None:
    for changes in ({"sequence": 7, "traceparent": None}, {"task": "other"}, {"tenant": "other"}, {}):
        changed, made = event.changed(**changes), replace(event, **changes)
        assert (changed, changed.key) == (made, made.key)
    with pytest.raises(TypeError, match="no sequnce"):
        event.changed(sequnce=7)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (Submission, SUBMISSION | {"more": 1}),
        (Submission, SUBMISSION | {"chain": "Shop"}),
        (Submission, SUBMISSION | {"input": [1]}),
        (Submission, SUBMISSION | {"callback": "ftp://a.test"}),
        (Submission, SUBMISSION | {"callback": "https://a.test/\r\nX: y"}),
        (Submission, SUBMISSION | {"callback": "https://a.test/" + "x" * 2_000}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST[1:]}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST[1:] + "G"}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST + "\n"}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST, "outputs": {"copy": "text"}}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST, "trail": [HOP] * 65}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST, "end": "perhaps"}),
        (Body, {"submission": SUBMISSION, "digest": DIGEST, "held": "x" * 2_001}),
        (Hop, HOP | {"step": "copy|model"}),
        (Hop, HOP | {"service": "x" * 49}),
        (Hop, HOP | {"started": -1}),
        (Hop, HOP | {"ended": LAST_SECOND + 1}),
        (Hop, HOP | {"ended": "inf"}),
        (Hop, HOP | {"attempts": 0}),
        (Hop, HOP | {"notes": ["x"] * 33}),
        (Hop, HOP | {"notes": ["x" * 2_001]}),
        (Usage, {"tokens_in": 10**19}),
        (Usage, {"tokens_in": "9" * 400}),
        (Usage, {"calls": -1}),
        (Failure, {"kind": "Bug", "message": ""}),
        (Failure, {"kind": "bug", "message": "x" * 2_001}),
        (Failure, {"kind": "bug", "message": "\ud800"}),
        (Failure, {"kind": "bug", "message": "", "traceback": "x" * 8_001}),
    ],
)
def test_what_no_event_may_carry_is_refused(model: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(wrong)
