"""`callstream lag`: a row for each group, topic or partition."""

from rich.console import Console

from callstream.cli.lag import Shape, table
from callstream.streams.lag import Lag, by_group, summed

ROWS = [
    Lag("gateway", "callstream.infer", 0, 10, 10, 0),
    Lag("gateway", "callstream.infer", 1, 5, None, 5),
    Lag("gateway", "callstream.finished", 0, 7, 6, 1),
    Lag("timer", "callstream.timer", 0, 1_000, 1_000, 0),
]


def rows(shape: Shape) -> list[list[str]]:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(table(ROWS, shape))
    return [line.split() for line in capture.get().splitlines()[3:] if line.strip()]


def test_a_group_is_one_row_that_names_its_topic_or_counts_them() -> None:
    assert rows(by_group) == [
        ["gateway", "2", "topics", "3", "22", "16", "6"],
        ["timer", "callstream.timer", "1", "1,000", "1,000", "0"],
    ]


def test_topics_and_partitions_are_told_apart_when_asked_for() -> None:
    assert next(row[1:4] for row in rows(summed)) == ["callstream.infer", "2", "15"]
    assert rows(list)[1] == ["gateway", "callstream.infer", "1", "5", "-", "5"]
