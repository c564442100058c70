import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime

from standardwebhooks import Webhook

from callstream.agents.notification import payload, signed_headers, webhook_id
from callstream.streams.event import Body, End, Event, Failure, Submission

SECRET = "whsec_" + b64encode(b"k" * 32).decode()


def event(end: End = End.FINISHED, failure: Failure | None = None) -> Event:
    submission = Submission(chain="shop", input={"hush": 1}, callback="https://shop.example/done")
    result = {"text": "马克杯"} if end is End.FINISHED else None
    body = Body(submission=submission, digest="0" * 64, end=end, failure=failure, result=result)
    return Event(tenant="acme", task="mug.1", chain="shop", version=1, sequence=6, body=body, time=1.5)


def test_it_says_how_the_task_ended_and_no_more() -> None:
    assert json.loads(payload(event())) == {
        "type": "task.finished",
        "timestamp": "1970-01-01T00:00:01.500000Z",
        "data": {
            "id": "mug.1",
            "tenant": "acme",
            "chain": "shop",
            "state": "finished",
            "result": {"text": "马克杯"},
            "failure": None,
        },
    }


def test_a_failure_is_told_without_its_traceback() -> None:
    failure = Failure(kind="bug", message="no", step="copy", traceback="secret path")
    told = json.loads(payload(event(End.FAILED, failure)))
    assert told["type"] == "task.failed"
    assert told["data"]["failure"] == {"kind": "bug", "message": "no", "step": "copy"}


def test_the_id_is_the_same_in_every_attempt_and_holds_no_dot() -> None:
    first, third = webhook_id(event()), webhook_id(replace(event(), attempt=3))
    assert first == third
    assert "." not in first
    assert first != webhook_id(replace(event(), task="mug.2"))


def test_a_run_that_a_crash_let_end_at_two_steps_is_told_under_one_id() -> None:
    assert webhook_id(replace(event(), sequence=7)) == webhook_id(replace(event(), sequence=2))


def test_the_library_verifies_what_was_signed() -> None:
    now, body = datetime.now(UTC).timestamp(), payload(event())
    headers = signed_headers(SECRET, event(), body, now)
    assert Webhook(SECRET).verify(body, headers)["data"]["id"] == "mug.1"
    assert headers["webhook-timestamp"] == str(int(now))


def test_a_task_that_was_taken_up_again_has_a_new_end() -> None:
    assert webhook_id(replace(event(), run=1)) != webhook_id(event())
