import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_kafka,
    to_binary,
    to_structured,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams import strict_json
from callstream.streams.event import LAST_SECOND, Event
from callstream.streams.wire import (
    MAX_BODY_BYTES,
    MAX_BODY_DEPTH,
    MAX_RECORD_BYTES,
    STRUCTURED_TYPE,
    BadEvent,
    Headers,
    as_json,
    decode,
    encode,
    epoch,
    timestamp,
)
from tests.support.events import DIGEST, EVENTS, SECONDS, an_event

STRUCTURED: Headers = [("content-type", STRUCTURED_TYPE.encode())]
GOOD = encode(an_event(deadline=20.0, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"), "callstream.prepare")
FOREIGN: Headers = [
    ("__faust", b'{"ns": "os.system"}'),
    ("Faust-Ag-ReplyTo", b"secrets"),
    ("Faust-Ag-CorrelationId", b"\xff"),
    ("ce-tenant", b"other"),
    ("x", b"\0" * 10_000),
]


def headers(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    """The headers of a good record, some replaced; what is replaced by b"-" is left out."""
    named: dict[str, bytes | None] = dict(GOOD.headers)
    named |= {
        name if name == "x" else name.replace("content_type", "content-type"): raw for name, raw in changes.items()
    }
    return [(name, raw) for name, raw in named.items() if raw != b"-"]


def envelope(**changes: Any) -> bytes:
    """A good event in structured mode, some members replaced."""
    return json.dumps(as_json(an_event()) | changes).encode()


def body(**changes: Any) -> bytes:
    """The body of a good event, some members replaced."""
    return json.dumps(json.loads(GOOD.value) | changes).encode()


@given(EVENTS)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    record = encode(event, "callstream.infer")
    assert decode(record.value, record.headers) == event
    assert (record.topic, record.key) == ("callstream.infer", event.key)


@given(EVENTS)
def test_structured_mode_says_the_same(event: Event) -> None:
    assert decode(strict_json.dumps(as_json(event)), STRUCTURED) == event


@given(EVENTS)
def test_the_cloudevents_sdk_reads_our_records(event: Event) -> None:
    record = encode(event, "callstream.infer")
    read = from_kafka(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())
    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, "/callstream", event.type)
    assert (read.get_specversion(), read.get_datacontenttype()) == ("1.0", "application/json")
    assert (read.get_subject(), read.get_extension("tenant")) == (event.task, event.tenant)
    assert read.get_extension("partitionkey") == event.key.decode()
    moment = read.get_time()
    assert moment is not None
    assert moment.timestamp() == event.time
    assert read.get_data() == json.loads(record.value)


@pytest.mark.parametrize("write", [to_binary, to_structured])
@given(EVENTS)
def test_we_read_the_records_of_the_cloudevents_sdk(write: Any, event: Event) -> None:
    attributes = {name: value for name, value in as_json(event).items() if name not in ("data", "time")}
    made = CloudEvent(attributes, as_json(event)["data"])
    message = write(made, JSONFormat())
    assert replace(decode(message.value, message.headers.items()), time=event.time) == event


def test_foreign_headers_change_nothing() -> None:
    assert decode(GOOD.value, [*FOREIGN, *GOOD.headers, *FOREIGN]) == decode(GOOD.value, GOOD.headers)
    assert not {name for name, _ in encode(decode(GOOD.value, [*FOREIGN, *GOOD.headers]), "").headers} & {
        name for name, _ in FOREIGN
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ce_specversion": b"-"}, "attribute specversion is missing; send '1.0'"),
        ({"ce_specversion": b"0.3"}, "specversion '0.3' is not taken"),
        ({"ce_specversion": b"9" * 4_000}, "is not taken; send '1.0'"),
        ({"ce_id": b"-"}, "attribute 'id' is missing"),
        ({"ce_source": b""}, "attribute 'source' is missing"),
        ({"ce_type": b"-"}, "attribute 'type' is missing"),
        ({"ce_type": b"x" * 201}, "attribute 'type' is not valid"),
        ({"ce_type": b"a\nb"}, "attribute 'type' is not valid"),
        ({"ce_tenant": b"-"}, "attribute 'tenant' is missing"),
        ({"ce_subject": b"-"}, "attribute 'subject' is missing"),
        ({"ce_subject": b"a/b"}, "attribute 'subject' is not valid: 'a/b'"),
        ({"ce_subject": b"a\0"}, r"attribute 'subject' is not valid: 'a\x00'"),
        ({"ce_subject": b"a\n"}, r"attribute 'subject' is not valid: 'a\n'"),
        ({"ce_subject": b"a" * 129}, "attribute 'subject' is not valid"),
        ({"ce_tenant": "acmé".encode()}, "attribute 'tenant' is not valid"),
        ({"ce_chain": b"Shop"}, "attribute 'chain' is not valid"),
        ({"ce_chainversion": "١".encode()}, "attribute 'chainversion' is not valid"),
        ({"ce_chainversion": b"-1"}, "attribute 'chainversion' is not valid"),
        ({"ce_sequence": b"10000"}, "attribute 'sequence' is not valid"),
        ({"ce_attempt": b"0"}, "attribute 'attempt' is not valid"),
        ({"ce_attempt": b"9" * 5_000}, "header 'ce_attempt' is empty or longer than 4,096 bytes"),
        ({"ce_priority": b"urgent"}, "attribute 'priority' is 'urgent', not one of high, normal, low"),
        ({"ce_traceparent": b"00-xyz"}, "attribute 'traceparent' is not valid"),
        ({"ce_time": b"yesterday"}, "attribute 'time': Invalid isoformat string: 'yesterday'"),
        ({"ce_time": b"2030-01-31T12:00:00"}, "has no UTC offset"),
        ({"ce_time": b"10000-01-01T00:00:00Z"}, "attribute 'time'"),
        ({"ce_time": b"1969-12-31T23:59:59Z"}, "within the years 1970 to 9999"),
        ({"ce_expirytime": b"0001-01-01T00:00:00+14:00"}, "attribute 'expirytime': '0001-01-01T00:00:00+14:00' is not"),
        ({"ce_expirytime": b"9999-12-31T23:59:59.999999Z"}, "attribute 'expirytime'"),
        ({"ce_expirytime": b"9999-12-31T23:59:59-14:00"}, "attribute 'expirytime'"),
        ({"ce_subject": None}, "header 'ce_subject' is empty or longer"),
        ({"ce_subject": b"\xff"}, "header 'ce_subject' is not UTF-8"),
        ({"ce_x": b"x" * 4_097}, "header 'ce_x' is empty or longer than 4,096 bytes"),
        ({"content_type": b"text/xml"}, "content type 'text/xml' is not taken; send application/json"),
        ({"content_type": b"\xff"}, "header 'content-type' is not UTF-8"),
        ({"content_type": b"application/cloudevents+avro"}, "send application/cloudevents+json or binary mode"),
        ({"content_type": b"application/cloudevents-batch+json"}, "send application/cloudevents+json or binary mode"),
        ({"ce_datacontenttype": b"text/xml"}, "content type 'text/xml' is not taken"),
    ],
)
def test_attributes_that_are_wrong_are_named(changes: dict[str, bytes | None], said: str) -> None:
    with pytest.raises(BadEvent) as refused:
        decode(GOOD.value, headers(**changes))
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "a tombstone"),
        (b"", "body: not JSON"),
        (b"\xff", "body: not UTF-8 at byte 0"),
        (body(outputs={"a": {"b": float("nan")}}), "body: NaN is not a JSON number"),
        (b'{"outputs": {"a": {"b": 1e999}}}', "body: number 1e999 is out of range"),
        (b'{"a":' * 10_000, "body: nested deeper than"),
        (b'{"outputs": {"a": {"b": ' + b"9" * 5_000, "body: an integer of 5,000 digits"),
        (body(outputs={"a": {"b": "\ud800"}}), "body: a string holds half of a surrogate pair"),
        (b'{"digest": "a", "digest": "b"}', "body: key 'digest' stands twice in one object"),
        (b"[]", "body: body: Input should be"),
        (b"null", "body: body: Input should be"),
        (body(more=1), "body: more: Extra inputs are not permitted"),
        (body(digest=None), "body: digest: Input should be a valid string"),
        (body(submission={"chain": "shop", "input": {}, "tenant": "other"}), "body: submission.tenant: Extra inputs"),
        (
            body(trail=[{"step": "a|b", "service": "x", "started": 1, "ended": 2}]),
            "body: trail.0.step: must be 1 to 48",
        ),
        (body(**{f"key {number}": "x" * 1_000 for number in range(2_000)}), "and 1995 more"),
        (b" " * MAX_RECORD_BYTES + b"1", "body: 4,259,841 bytes; at most 4,259,840 are taken"),
    ],
)
def test_bodies_that_are_wrong_are_named(value: bytes | None, said: str) -> None:
    with pytest.raises(BadEvent) as refused:
        decode(value, GOOD.headers)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 2_100


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"[]", "a structured CloudEvent is a JSON object"),
        (b"{}", "attribute specversion is missing"),
        (envelope(specversion="2.0"), "specversion '2.0' is not taken"),
        (envelope(id=""), "attribute 'id' is missing"),
        (envelope(source=None), "attribute 'source' is missing"),
        (envelope(data_base64="e30="), "data_base64 is not taken"),
        (envelope(subject=["a"]), "attribute 'subject' must be a string or an integer"),
        (envelope(attempt=1.5), "attribute 'attempt' must be a string or an integer"),
        (envelope(attempt=True), "attribute 'attempt' is not valid"),
        (envelope(datacontenttype="text/xml"), "content type 'text/xml' is not taken"),
        (envelope(type="x" * 5_000), "attribute 'type' is longer than 4,096 characters"),
        (envelope(data="text"), "body: body: Input should be"),
        (envelope(data=None), "body: body: Input should be"),
        (envelope(data={"a": [{}] * 2} | {"digest": 1}), "body: submission: Field required"),
        (b'{"id": "1", "id": "2"}', "body: key 'id' stands twice"),
    ],
)
def test_envelopes_that_are_wrong_are_named(value: bytes, said: str) -> None:
    with pytest.raises(BadEvent) as refused:
        decode(value, STRUCTURED)
    assert said in str(refused.value)


def test_an_envelope_may_say_null_and_numbers() -> None:
    value = envelope(expirytime=None, attempt=2, sequence=3, dataschema=None)
    event = decode(value, [("Content-Type", b"application/cloudevents+json; charset=UTF-8")])
    assert (event.deadline, event.attempt, event.sequence) == (None, 2, 3)


def test_an_event_without_what_may_be_left_out_has_the_defaults() -> None:
    left_out = ("time", "sequence", "attempt", "priority", "chainversion", "partitionkey", "expirytime", "traceparent")
    event = decode(GOOD.value, headers(**{f"ce_{name}": b"-" for name in left_out}, content_type=b"-"))
    assert (event.time, event.sequence, event.attempt, event.version, event.deadline) == (0.0, 0, 1, 0, None)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_the_door_takes_the_event_can_wrap_and_each_reader_read() -> None:
    document = strict_json.loads(strict_json.dumps({"input": {"a": nested(strict_json.MAX_DEPTH - 2)}}), 1_000)
    event = an_event().with_body(
        submission=an_event().body.submission.model_copy(update=document), outputs={"a": document}
    )
    record = encode(event, "")
    assert decode(record.value, record.headers) == event
    assert decode(strict_json.dumps(as_json(event)), STRUCTURED) == event


def test_depth_has_a_bound() -> None:
    inner = MAX_BODY_DEPTH - 3
    assert decode(body(outputs={"a": {"b": nested(inner)}}), GOOD.headers)
    with pytest.raises(BadEvent, match="nested deeper"):
        decode(body(outputs={"a": {"b": nested(inner + 1)}}), GOOD.headers)


def test_a_body_that_is_too_large_is_not_written() -> None:
    large = an_event(outputs={"copy": {"text": "x" * MAX_BODY_BYTES}})
    with pytest.raises(ValueError, match=r"the event has 4,194,\d+ bytes; at most 4,194,304"):
        encode(large, "")


@pytest.mark.parametrize(
    "wrong", [float("nan"), float("inf"), "\ud800", object()], ids=["nan", "inf", "half", "object"]
)
def test_what_is_no_json_is_not_written(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(an_event(outputs={"copy": {"text": wrong}}), "")


@given(SECONDS | st.floats(0, LAST_SECOND))
def test_times_settle_once_written(seconds: float) -> None:
    once = epoch(timestamp(seconds))
    assert abs(once - seconds) < 1e-4
    assert epoch(timestamp(once)) == once


RAW = st.binary(max_size=40)
NAMED = st.sampled_from([name for name, _ in GOOD.headers] + ["ce_datacontenttype", "ce_expirytime", "CE_TIME", "x"])
GIVEN = st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))
TIMES = st.from_regex(
    r"[0-9]{1,5}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{0,7})?(Z|[+-][0-2][0-9]:[0-9]{2})?"
)


def check(value: bytes | None, given_headers: Iterable[tuple[str, bytes | None]]) -> None:
    """What is taken can be written and read again; all else is a BadEvent."""
    try:
        event = decode(value, given_headers)
    except BadEvent:
        return
    record = encode(event, "t")
    assert decode(record.value, record.headers) == event


@given(st.none() | RAW, st.lists(st.tuples(NAMED, st.none() | RAW | GIVEN), max_size=12))
def test_no_bytes_and_no_headers_raise_anything_but_bad_event(
    value: bytes | None, changes: list[tuple[str, bytes | None]]
) -> None:
    check(value, changes)
    check(GOOD.value, [*GOOD.headers, *changes])
    check(value, [*GOOD.headers, *changes])
    check(value, STRUCTURED)


@given(st.dictionaries(NAMED, GIVEN | TIMES.map(str.encode) | st.integers(-9, 99_999).map(lambda n: str(n).encode())))
def test_attributes_of_any_text_are_taken_or_named(changes: dict[str, bytes]) -> None:
    check(GOOD.value, list((dict(GOOD.headers) | changes).items()))


@given(
    st.dictionaries(
        st.sampled_from([*as_json(an_event()), "expirytime", "traceparent", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | TIMES | st.lists(st.none()),
    )
)
def test_envelopes_of_any_members_are_taken_or_named(changes: dict[str, Any]) -> None:
    check(envelope(**changes), STRUCTURED)


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("9" * 400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
HOP = {"step": "copy", "service": "infer", "started": 1, "ended": 2}


@given(st.dictionaries(st.sampled_from(["submission", "digest", "outputs", "trail", "end", "held", "result"]), WILD))
def test_bodies_of_any_members_are_taken_or_named(changes: dict[str, Any]) -> None:
    check(body(**changes), GOOD.headers)


@given(st.dictionaries(st.sampled_from([*HOP, "attempts", "notes", "usage"]), WILD), WILD, WILD)
def test_trails_and_outputs_of_any_kind_are_taken_or_named(hop: dict[str, Any], tokens: Any, output: Any) -> None:
    check(body(trail=[HOP | hop]), GOOD.headers)
    check(body(trail=[HOP | {"usage": {"tokens_in": tokens, "calls": tokens}}]), GOOD.headers)
    check(body(outputs={"a": output, "b": {"c": output}}), GOOD.headers)


@pytest.mark.parametrize(
    "value",
    [
        b"{" + b",".join(b'"%d": {}' % number for number in range(60_000)) + b"}",
        body(trail=[{"step": number} for number in range(30_000)]),
        body(outputs={str(number): number for number in range(60_000)}),
        body(trail=[HOP | {"notes": [1] * 100_000}]),
    ],
    ids=["members", "hops", "outputs", "notes"],
)
def test_a_large_wrong_body_takes_bounded_time(value: bytes) -> None:
    started = time.process_time()
    with pytest.raises(BadEvent) as refused:
        decode(value, GOOD.headers)
    assert len(str(refused.value)) < 2_100
    assert time.process_time() - started < 5


def test_attributes_and_members_of_a_newer_program_pass_through_as_they_are() -> None:
    # Given an event with an attribute and a member that this program does not know
    record = encode(an_event(extensions={"flavour": "new é"}), "t").headers
    value = json.dumps({"submission": {"chain": "shop", "input": {}}, "digest": DIGEST, "additions": {"f": {"a": [1]}}})
    # when it is read, changed and written, in both modes
    event = decode(value.encode(), [*record])
    again = encode(event.with_body(outputs={"copy": {}}), "t")
    # then both are still there
    assert dict(again.headers)["ce_flavour"] == "new é".encode()
    assert json.loads(again.value)["additions"] == {"f": {"a": [1]}}
    envelope = json.dumps(as_json(event)).encode()
    assert decode(envelope, [("content-type", b"application/cloudevents+json")]) == event


def test_names_that_cloudevents_does_not_have_are_nobodys() -> None:
    headers = [*encode(an_event(), "t").headers, ("ce_not-a-name", b"x"), ("other", b"y"), ("ce_" + "x" * 41, b"z")]
    assert decode(encode(an_event(), "t").value, headers).extensions == {}


def test_no_event_carries_any_number_of_attributes() -> None:
    record = encode(an_event(), "t")
    with pytest.raises(BadEvent, match="17 attributes are not known here; at most 16"):
        decode(record.value, [*record.headers, *((f"ce_a{n}", b"") for n in range(17))])


def test_an_extension_takes_no_known_name() -> None:
    record = encode(an_event(extensions={"tenant": "other"}), "t")
    assert decode(record.value, [*record.headers]).tenant == "acme"
    assert an_event(extensions={"a": "1"}).extended(a=None, b="2").extensions == {"b": "2"}
