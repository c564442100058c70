"""Values as people see them: bounded, with human forms beside them, and nothing hidden."""

import pytest

from callstream.web.tree import human_bytes, human_seconds, preview, tree, visible


def test_a_value_becomes_a_tree() -> None:
    root = tree("row", {"state": "held", "n": 12345, "on": True, "none": None, "steps": [{"seconds": 0.5}]})

    assert (root.kind, root.text) == ("object", "5 members")
    assert [(node.name, node.kind, node.text) for node in root.children] == [
        ("state", "text", "held"),
        ("n", "number", "12,345"),
        ("on", "true", "true"),
        ("none", "null", "null"),
        ("steps", "list", "1 entry"),
    ]
    assert root.children[4].children[0].children[0].hint == "500 ms"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("created", 1_700_000_000, "2023-11-14 22:13:20 UTC"),
        ("created", 12.0, ""),
        ("count", 1_700_000_000, ""),
        ("size_bytes", 2048, "2.0 KiB"),
        ("seconds", 90, "1 min 30 s"),
    ],
)
def test_numbers_are_said_again_for_people(name: str, value: float, hint: str) -> None:
    assert tree("row", {name: value}).children[0].hint == hint


def test_much_is_left_out_and_counted() -> None:
    wide = tree("row", list(range(1000)))
    long = tree("row", {"text": "x" * 5000})
    bushy = tree("row", [[list(range(100)) for _ in range(100)] for _ in range(100)], most_nodes=500)

    assert (len(wide.children), wide.omitted) == (200, 800)
    assert (len(long.children[0].text), long.children[0].omitted) == (4000, 1000)
    assert bushy.omitted > 0


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\0\x1b\u202eb\n\t漢\u3000") == "a\\x00\\x1b\\u202eb\n\t漢\u3000"
    assert tree("row", {"a\0": "b\0"}).children[0].name == "a\\x00"


def test_a_preview_is_one_line_and_short() -> None:
    assert preview({"a": [1, None, True, "x\ny"], "b": 0.123456789}) == "{a: [1, null, true, x y], b: 0.123457}"
    assert len(preview({"a": ["x" * 10**6] * 1000})) == 141


def test_sizes_and_durations() -> None:
    assert [human_bytes(n) for n in (None, 0, 999, 1000, 10**7, 10**15)] == [
        "–",
        "0 B",
        "999 B",
        "1.0 KiB",
        "9.5 MiB",
        "909 TiB",
    ]
    assert [human_seconds(s) for s in (-1, 0, 0.00123, 1.5, 3725, 90_000)] == [
        "-1 s",
        "0 ms",
        "1.23 ms",
        "1.5 s",
        "1 h 2 min",
        "1 d 1 h",
    ]
