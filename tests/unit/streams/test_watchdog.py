import pytest

from callstream.streams.watchdog import Watchdog, stood_still


def test_lag_without_progress_ends_the_worker_after_so_many_seconds() -> None:
    dog = Watchdog(120.0, now=0.0)
    assert dog.look(lag=5, progress=0, now=10.0) is None
    assert dog.look(lag=5, progress=0, now=129.0) is None
    assert dog.look(lag=1_234, progress=0, now=130.0) == "1,234 records wait and nothing has finished for 120 s"


def test_a_broker_that_is_silent_counts_as_work() -> None:
    dog = Watchdog(60.0, now=0.0)
    assert dog.look(None, 0, 0.0) is None
    assert dog.look(None, 0, 60.0) == "the broker does not answer and nothing has finished for 60 s"


@pytest.mark.parametrize(("lag", "progress"), [(0, 7), (5, 8)])
def test_an_empty_topic_or_one_event_finished_begins_anew(lag: int, progress: int) -> None:
    dog = Watchdog(60.0, now=0.0)
    dog.look(5, 7, 0.0)
    assert dog.look(lag, progress, 59.0) is None
    assert dog.look(5, progress, 118.0) is None
    assert dog.look(5, progress, 119.0) is not None


def test_work_that_comes_after_a_long_rest_has_its_full_time() -> None:
    dog = Watchdog(60.0, now=0.0)
    for minute in range(100):
        assert dog.look(0, 3, minute * 60.0) is None
    assert dog.look(5, 3, 5_990.0) is None
    assert dog.look(5, 3, 6_000.0) is not None


def test_a_worker_that_stood_still_names_the_setting_and_what_to_do() -> None:
    said = stood_still(8.04)
    assert said.startswith("this process stood still for 8.0 s, longer than engine.session_timeout_seconds lets it own")
    assert "raise the setting" in said
