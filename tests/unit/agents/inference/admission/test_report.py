"""What replicas tell is kept while they live, and bounded."""

from callstream.agents.inference.admission.report import MOST_REPLICAS, SILENT_SECONDS, Reports

REPORT = {"pools": [{"pool": "copywriter"}], "calls": {"acme/mug-1": {"reason": "tokens"}}}


def test_why_a_task_waits_is_what_the_replica_that_has_it_told_last() -> None:
    reports = Reports()
    reports.hear("a", {"pools": [], "calls": {}}, 0.0)
    reports.hear("b", REPORT, 1.0)
    assert reports.why("acme", "mug-1", 2.0) == {"reason": "tokens", "replica": "b"}
    assert reports.why("acme", "mug-2", 2.0) is None
    reports.hear("b", {"pools": [], "calls": {}}, 3.0)
    assert reports.why("acme", "mug-1", 3.0) is None


def test_a_replica_that_is_silent_is_gone() -> None:
    reports = Reports()
    reports.hear("a", REPORT, 0.0)
    assert set(reports.alive(SILENT_SECONDS)) == {"a"}
    assert not reports.alive(SILENT_SECONDS + 0.1)


def test_what_is_no_report_is_ignored() -> None:
    reports = Reports()
    for number, nonsense in enumerate(["", 1, "pools"]):
        reports.hear(f"a{number}", nonsense, 0.0)
    reports.hear("a", {"pools": 1}, 0.0)
    reports.hear("b", {"pools": [], "calls": None}, 0.0)
    assert list(reports.alive(0.0)) == ["b"]
    assert reports.why("acme", "mug-1", 0.0) is None


def test_replicas_are_bounded() -> None:
    reports = Reports()
    for number in range(MOST_REPLICAS + 10):
        reports.hear(f"r{number}", REPORT, float(number) / 1000)
    assert len(reports.alive(1.5)) == MOST_REPLICAS


def test_who_is_before_the_gate_is_told_how_many_are_there() -> None:
    reports = Reports()
    groups = [{"lane": "normal", "tenant": "acme", "events": 1_200}]
    reports.hear("a", {"pools": [7, {"pool": "other"}], "calls": {}}, 0.0)
    reports.hear("b", {"pools": [{"pool": "copywriter", "aside": groups}], "calls": {}}, 0.0)
    found = reports.aside("acme", "copywriter", "normal", 1.0)
    assert found is not None
    assert (found["reason"], found["put_aside"], found["replica"]) == ("fair share", 1_200, "b")
    assert "1,200 tasks of acme" in found["waits_for"]
    assert reports.aside("acme", "copywriter", "low", 1.0) is None
    assert reports.aside("beta", "copywriter", "normal", 1.0) is None
    assert reports.aside("acme", "other", "normal", 1.0) is None
