from pathlib import Path

from callstream.streams.disk import free_bytes, unusable


def test_the_failure_names_the_table_the_folder_its_room_and_the_way_out(tmp_path: Path) -> None:
    gone = tmp_path / "tables" / "infer"
    told = str(unusable("table receipts", gone, OSError("No space left on device")))
    for part in (
        "table receipts",
        str(gone),
        "No space left on device",
        "bytes are free there",
        "start the worker again",
    ):
        assert part in told


def test_the_room_of_a_folder_that_is_gone_is_that_of_where_it_was(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0
