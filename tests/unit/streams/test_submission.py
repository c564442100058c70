"""Two submissions are the same if their digest is, and a deadline is a moment to come."""

import pytest

from callstream.streams.event import Priority, Submission
from callstream.streams.submission import Order, check_start, digest, new_event, parse_deadline, parse_run_at


def submission(**members: object) -> Submission:
    return Submission.model_validate({"chain": "copy", "input": {"a": 1, "b": {"c": "Ü", "d": [1]}}} | members)


def test_the_order_of_members_does_not_count() -> None:
    assert digest(submission()) == digest(submission(input={"b": {"d": [1], "c": "Ü"}, "a": 1}))


@pytest.mark.parametrize("members", [{"chain": "other"}, {"input": {"a": 2}}, {"callback": "https://example.org/"}])
def test_each_member_counts(members: dict[str, object]) -> None:
    assert digest(submission()) != digest(submission(**members))


def test_the_digest_is_a_storage_format() -> None:
    assert digest(submission()) == "651780518952b0aae07b6350d9aac96682855a2faed55fd88d3cd0d60eb4a19b"


def test_an_event_for_intake() -> None:
    event = new_event(submission(), Order("acme", "mug-1", Priority.LOW, 99.0, None), now=7.0)

    assert (event.sequence, event.version, event.time, event.deadline) == (0, 0, 7.0, 99.0)
    assert event.body.digest == digest(submission())
    assert event.input == submission().input


@pytest.mark.parametrize(("given", "moment"), [("1970-01-01T01:00:10+01:00", 10.0), (5, 6.0), (0.5, 1.5)])
def test_deadlines(given: str | float, moment: float) -> None:
    assert parse_deadline(given, now=1.0) == moment


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tomorrow", "RFC 3339"),
        ("1970-01-01T00:00:10", "offset"),
        ("1970-01-01T00:00:00Z", "future"),
        (0, "future"),
        (-1, "future"),
        (float("nan"), "future"),
        (float("inf"), "future"),
        (1e12, "a year"),
        ("9999-12-31T23:59:59-23:00", "a year"),
    ],
)
def test_no_deadlines(given: str | float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_deadline(given, now=1.0)


@pytest.mark.parametrize(
    ("given", "moment"),
    [(None, None), ("1970-01-01T00:00:00Z", 0.0), ("1970-01-01T00:00:10Z", 10.0), (0, 5.0), (7, 12.0)],
)
def test_starts(given: str | float | None, moment: float | None) -> None:
    assert parse_run_at(given, now=5.0) == moment


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tomorrow", "RFC 3339"),
        ("1970-01-01T00:00:10", "offset"),
        ("3000-01-01T00:00:00Z", "a year"),
        ("9999-12-31T23:59:59-23:00", "a year"),
        (1e12, "a year"),
        (float("inf"), "a year"),
        (float("nan"), "0 or more"),
        (-1, "0 or more"),
    ],
)
def test_no_starts(given: str | float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_run_at(given, now=1.0)


def test_a_task_starts_before_its_deadline() -> None:
    for run_at, deadline in ((None, 5.0), (5.0, None), (4.0, 5.0)):
        check_start(run_at, deadline)
    with pytest.raises(ValueError, match="deadline"):
        check_start(5.0, 5.0)
