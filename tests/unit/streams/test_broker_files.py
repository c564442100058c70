"""The texts, ports and state of a broker's folder."""

import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from callstream.streams.broker.options import BrokerOptions
from callstream.streams.broker.ports import HIGHEST, LOWEST, TRIES, Ports, choose_ports
from callstream.streams.broker.properties import escape, jvm_arguments, log4j2_xml, server_properties
from callstream.streams.broker.state import FolderLock, State, parse_state, read_state, write_whole

OPTIONS = BrokerOptions(heap_bytes=300 * 1024**2, message_bytes=2_000_000)
STATE = State(host="h", since=1.5, starter=2, detached=True, port=20_001, controller_port=20_002, pid=3)


def properties_of(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines()]
    return {key: value for key, _, value in lines}


def test_server_properties_bind_to_loopback_only() -> None:
    # when the configuration for two ports is made
    found = properties_of(server_properties(OPTIONS, Ports(20_001, 20_002), Path("/data")))
    # then clients and controller are served on 127.0.0.1 and on those ports
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20001"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert found["log.dirs"] == "/data"
    assert found["message.max.bytes"] == "2000000"
    assert found["auto.create.topics.enable"] == "false"


@pytest.mark.parametrize(
    ("value", "written"), [("a b", "a b"), ("C:\\k", "C:\\\\k"), ("dátá", "d\\u00e1t\\u00e1"), ("😀", "\\ud83d\\ude00")]
)
def test_values_are_escaped_for_java(value: str, written: str) -> None:
    assert escape(value) == written


def test_log_is_bounded_and_heap_is_set() -> None:
    options = BrokerOptions(log_bytes=70_000, logs_kept=2, heap_bytes=300 * 1024**2)
    assert 'size="70000"' in log4j2_xml(options)
    assert 'max="2"' in log4j2_xml(options)
    arguments = jvm_arguments(options, Path("/f"), Path("/f/logs"))
    assert arguments[0] == "-Xmx300m"
    assert "-Dcallstream.log=/f/logs/broker.log" in arguments


def test_options_refuse_what_is_unknown_or_out_of_bounds() -> None:
    with pytest.raises(ValidationError, match="heap_bytes"):
        BrokerOptions(heap_bytes=1)
    with pytest.raises(ValidationError, match="version"):
        BrokerOptions(version="3.9.0")
    with pytest.raises(ValidationError, match="colour"):
        BrokerOptions.model_validate({"colour": "red"})


def test_remembered_ports_are_used_again_when_free() -> None:
    remembered = Ports(20_001, 20_002)
    assert choose_ports(remembered, lambda port: True, random.Random(1)) == remembered


def test_a_taken_port_is_replaced_and_the_other_kept() -> None:
    found = choose_ports(Ports(20_001, 20_002), lambda port: port != 20_001, random.Random(1))
    assert found.controller == 20_002
    assert found.broker not in (20_001, 20_002)
    assert LOWEST <= found.broker < HIGHEST


def test_equal_remembered_ports_are_not_used_for_both() -> None:
    found = choose_ports(Ports(20_001, 20_001), lambda port: True, random.Random(1))
    assert found.broker != found.controller


def test_new_ports_differ_and_the_search_ends() -> None:
    found = choose_ports(None, lambda port: True, random.Random(1))
    assert found.broker != found.controller
    asked: list[int] = []

    def taken(port: int) -> bool:
        asked.append(port)
        return False

    with pytest.raises(OSError, match="no free port"):
        choose_ports(None, taken, random.Random(1))
    assert len(asked) == TRIES


def test_state_survives_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, STATE.model_dump_json())
    assert read_state(path) == STATE
    assert STATE.bootstrap == "127.0.0.1:20001"
    assert STATE.ports == Ports(20_001, 20_002)
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\x00",
        b"{}",
        STATE.model_dump_json().encode()[:-9],
        STATE.model_dump_json().replace("20001", "70000").encode(),
        STATE.model_dump_json().replace('"pid":3', '"pid":-1').encode(),
        STATE.model_dump_json().replace("1.5", "NaN").encode(),
    ],
)
def test_garbage_is_no_state(text: bytes) -> None:
    assert parse_state(text) is None


def test_a_missing_state_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None
    assert read_state(tmp_path) is None


def test_the_lock_is_held_once(tmp_path: Path) -> None:
    # given a folder whose lock was never taken
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert not first.is_held()
    # when one takes it
    assert first.acquire()
    # then another sees that and cannot
    assert second.is_held()
    assert not second.acquire()
    # until it is released
    first.release()
    assert not second.is_held()
    assert second.acquire()
    second.release()
