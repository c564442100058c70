"""What replicas tell is kept while they live, and bounded."""

from callstream.agents.alarms.sightings import budgets
from callstream.agents.inference.admission.report import MOST_REPLICAS, SILENT_SECONDS, Reports, budgets_in, used_up
from callstream.streams.event import Json

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


def test_a_call_in_flight_is_told_with_its_replica_while_that_is_there() -> None:
    reports = Reports()
    reports.hear("a", {"pools": [], "calling": {"acme/mug-1": {"endpoint": "mini"}, "acme/mug-2": 3}}, 1.0)
    assert reports.calling("acme", "mug-1", 2.0) == {"endpoint": "mini", "replica": "a"}
    assert reports.calling("acme", "mug-2", 2.0) is None
    reports.hear("b", {"pools": [], "calling": [3], "calls": [3]}, 2.0)
    assert reports.why("acme", "mug-3", 2.0) is None
    assert reports.calling("acme", "mug-1", 1.1 + SILENT_SECONDS) is None


def budget(**changes: object) -> Json:
    told = {"budget": "tenant acme", "period": "day", "currency": "EUR", "resets": 9.0, "state": "within"}
    return told | {"spent": "0.1", "waiting": 1, "warn_at": None, "slow_at": None, "ceiling": "5"} | changes


def test_a_budget_is_what_all_replicas_say_of_it_together() -> None:
    one, other = [budget()], [budget(state="slow", spent="0.2"), budget(budget="chain shop"), {"budget": "odd"}, 3]
    reports: dict[str, Json] = {"a": {"budgets": one}, "b": {"budgets": other}, "c": {"budgets": "?"}, "d": {}}
    shop, acme = budgets_in(reports)
    assert (acme["budget"], acme["spent"], acme["state"], acme["waiting"]) == ("tenant acme", "0.3", "slow", 2)
    assert (shop["budget"], shop["spent"]) == ("chain shop", "0.1")
    assert [(level.subject, level.value, level.labels) for level in budgets(reports)] == [
        ("chain-shop/day", 0, {"chain": "shop"}),
        ("tenant-acme/day", 2, {"tenant": "acme"}),
    ]


def test_a_task_that_was_put_aside_says_which_budget_of_its_own_is_used_up() -> None:
    reports: dict[str, Json] = {"a": {"budgets": [budget(), budget(budget="chain shop", state="stopped")]}}
    assert used_up(reports, "acme", "news") == {}
    assert used_up(reports, "acme", "shop") == {
        "reason": "budget",
        "waits_for": "budget of chain shop: 5 EUR a day",
        "resets": 9.0,
    }
