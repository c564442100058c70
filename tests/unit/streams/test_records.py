"""No record stops its partition, whatever its headers are called."""

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from callstream.streams.records import Records

PLACE = b"placeholder"
BAD = b"\xff\xfe-hold\xe9\xe9rs"
CRC_AT, ATTRIBUTES_AT = 17, 21


def batch(names: list[str], base: int = 0, codec: int = 0) -> bytes:
    """A batch of one record for each header name; one called `placeholder` gets a name that is not UTF-8."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000,
    )
    for number, name in enumerate(names):
        builder.append(number, 1_000 + number, b"k%d" % number, b"v%d" % number, [(name, b"1"), ("ce_id", b"x")])
    raw = bytearray(bytes(builder.build()).replace(PLACE, BAD))
    raw[0:8] = base.to_bytes(8, "big")
    raw[CRC_AT:ATTRIBUTES_AT] = calc_crc32c(raw[ATTRIBUTES_AT:]).to_bytes(4, "big")
    return bytes(raw)


def read(data: bytes) -> list[tuple[int, Any, Any, list[tuple[str, Any]]]]:
    records, found = Records(data), []
    while records.has_next():
        each = records.next_batch()
        assert each.validate_crc()
        found += [(record.offset, record.key, record.value, record.headers) for record in each]
    assert records.next_batch() is None
    return found


def test_the_reader_of_aiokafka_stops_at_such_a_name() -> None:
    # Once this fails, `streams.records` can go.
    with pytest.raises(UnicodeDecodeError):
        list(MemoryRecords(batch(["placeholder"])).next_batch())


@pytest.mark.parametrize("at", [0, 1, 4])
def test_each_record_comes_once_and_the_name_is_escaped(at: int) -> None:
    names = [f"n{number}" for number in range(5)]
    names[at] = "placeholder"
    found = read(batch(names))
    names[at] = r"\xff\xfe-hold\xe9\xe9rs"
    assert [(offset, key, value) for offset, key, value, _ in found] == [
        (number, b"k%d" % number, b"v%d" % number) for number in range(5)
    ]
    assert [headers[0][0] for *_, headers in found] == names
    assert all(headers[1] == ("ce_id", b"x") for *_, headers in found)


def test_batches_before_and_after_are_read_as_ever() -> None:
    data = batch(["a", "b"]) + batch(["placeholder", "c"], base=2) + batch(["d"], base=4)
    assert [offset for offset, *_ in read(data)] == [0, 1, 2, 3, 4]
    assert Records(data).size_in_bytes() == len(data)


def test_a_batch_that_was_cut_off_is_left_for_the_next_fetch() -> None:
    data = batch(["a"]) + batch(["placeholder"], base=1)[:-3]
    assert [offset for offset, *_ in read(data)] == [0]


def test_what_a_batch_says_of_itself_is_told() -> None:
    found = Records(batch(["a", "b"], base=7)).next_batch()
    assert (found.base_offset, found.next_offset, found.is_control_batch) == (7, 9, False)
    assert isinstance(found._batch, DefaultRecordBatch)
