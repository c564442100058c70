"""Who runs in a data folder: told by locks, so that no death leaves a trace that is believed."""

import os
import socket
from pathlib import Path

import pytest

from callstream.presence import FOLDER, FolderInUse, Presence, Worker, answer_of, workers_in
from callstream.settings.reload import Reloaded


def test_where_nobody_ever_ran_there_is_nobody(tmp_path: Path) -> None:
    assert workers_in(tmp_path / "gone") == []


def test_a_worker_is_there_while_it_runs_and_has_an_id_once_it_can_be_signalled(tmp_path: Path) -> None:
    with Presence(tmp_path, ["infer", "gateway", "infer"]) as presence:
        (starting,) = workers_in(tmp_path)
        assert starting == Worker(services=("gateway", "infer"))
        assert str(starting) == "a worker that is being started (gateway, infer)"
        presence.tell()
        (running,) = workers_in(tmp_path)
        assert running == Worker(services=("gateway", "infer"), pid=os.getpid(), host=socket.gethostname())
        assert running.is_here
        assert str(running) == f"worker {os.getpid()} (gateway, infer)"
    assert workers_in(tmp_path) == []


def test_workers_of_other_services_share_a_folder(tmp_path: Path) -> None:
    with Presence(tmp_path, ["infer"]) as one, Presence(tmp_path, ["gateway", "intake"]) as other:
        one.tell()
        other.tell()
        assert {worker.services for worker in workers_in(tmp_path)} == {("infer",), ("gateway", "intake")}


def test_a_second_worker_of_a_service_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    with Presence(tmp_path, ["infer"]) as first:
        first.tell()
        with (
            pytest.raises(FolderInUse, match=rf"a worker \(process {os.getpid()} on .*\) runs infer in {tmp_path}"),
            Presence(tmp_path, ["gateway", "infer"]),
        ):
            pass
        # nor does it keep what it had taken
        assert [worker.services for worker in workers_in(tmp_path)] == [("infer",)]


@pytest.mark.parametrize("left", ["", "4711\n", '{"services": ["infer"], "pid": 1, "host": "x"}', "\0" * 100])
def test_what_a_killed_worker_left_is_not_believed(tmp_path: Path, left: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "infer.lock").write_text(left)
    assert workers_in(tmp_path) == []
    with Presence(tmp_path, ["infer"]):
        assert workers_in(tmp_path) == [Worker(services=("infer",))]


def test_an_answer_counts_for_who_asked_before_it_was_begun(tmp_path: Path) -> None:
    with Presence(tmp_path, ["infer", "gateway"]) as presence:
        presence.tell()
        (worker,) = workers_in(tmp_path)
        assert answer_of(tmp_path, worker, 0) is None
        presence.answer(10.0, Reloaded(changed=("inference.lanes.low",)))
        answer = answer_of(tmp_path, worker, 10.0)
        assert answer is not None
        assert answer.outcome.changed == ("inference.lanes.low",)
        assert answer_of(tmp_path, worker, 10.1) is None
        # nor does another worker's
        assert answer_of(tmp_path, worker.model_copy(update={"pid": 1}), 10.0) is None
        (tmp_path / FOLDER / "gateway.answer.json").write_text("{")
        assert answer_of(tmp_path, worker, 10.0) is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FolderInUse, match=f"{tmp_path}/file/workers cannot be used"),
        Presence(tmp_path / "file", ["x"]),
    ):
        pass
