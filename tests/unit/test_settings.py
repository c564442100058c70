"""Settings: environment over file over defaults; every error says which key, from where, what is allowed."""

import json
import os
from pathlib import Path
from typing import get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.settings import SettingsError, check_secrets, load, origins
from callstream.settings.gather import annotation_at, environment_name
from callstream.settings.lines import lines_of
from callstream.settings.model import Settings

POOLS = """
[inference.pools.writer]
endpoints = [{ name = "a", base_url = "http://127.0.0.1:1/v1", model = "m" }]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CALLSTREAM_"):
            monkeypatch.delenv(name)
    return tmp_path


def write(folder: Path, text: str, name: str = "callstream.toml") -> None:
    (folder / name).write_text(text)


def origin(key: str) -> str:
    return next(setting.origin for setting in origins(load()) if setting.key == key)


def problems() -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load()
    return caught.value.problems


def test_without_anything_set_all_are_defaults() -> None:
    settings = load()
    assert settings.broker is None
    assert settings.partitions == 8
    assert {setting.origin for setting in origins(settings)} == {"default"}


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "partitions = 4\nreplicas = 2\n\n[web]\nport = 9000\n")
    monkeypatch.setenv("CALLSTREAM_PARTITIONS", "16")
    settings = load()
    assert (settings.partitions, settings.replicas, settings.web.port) == (16, 2, 9000)
    assert origin("partitions") == "env CALLSTREAM_PARTITIONS"
    assert origin("web.port") == "callstream.toml:5"
    assert origin("web.host") == "default"


def test_another_file_is_named_by_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "partitions = 3", "other.toml")
    monkeypatch.setenv("CALLSTREAM_CONFIG", "other.toml")
    assert load().partitions == 3
    assert origin("partitions") == "other.toml:1"
    monkeypatch.setenv("CALLSTREAM_CONFIG", "gone.toml")
    assert problems() == ("CALLSTREAM_CONFIG=gone.toml: there is no such file",)


def test_a_variable_replaces_one_member_of_what_the_file_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, POOLS)
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS__WRITER__ENDPOINTS__0__API_KEY", "sk-abcdefgh")
    (endpoint,) = load().inference.pools["writer"].endpoints
    assert endpoint.model == "m"
    assert endpoint.api_key is not None
    assert endpoint.api_key.get_secret_value() == "sk-abcdefgh"
    assert origin("inference.pools.writer.endpoints.0.model") == "callstream.toml:3"


def test_a_gap_in_a_list_is_told_with_the_name_of_the_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, POOLS)
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS__WRITER__ENDPOINTS__5__API_KEY", "sk-abcdefgh")
    with pytest.raises(SettingsError, match=r"inference\.pools\.writer\.endpoints: .*\[0, 5\].* without a gap"):
        load()


def test_lists_are_read_with_commas_and_parts_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTREAM_CHAINS", "examples, more.chains")
    endpoint = {"name": "a", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS", json.dumps({"w": {"endpoints": [endpoint]}}))
    settings = load()
    assert settings.chains == ("examples", "more.chains")
    assert settings.inference.pools["w"].endpoints[0].name == "a"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTREAM_BROKER", "")
    assert load().broker is None


def test_a_value_where_a_table_belongs_is_told_what_may_stand_there(folder: Path) -> None:
    write(folder, "[inference.budgets.tenants.shop]\nday = 2\n")

    [told] = problems()
    assert told.startswith("inference.budgets.tenants.shop.day = 2 (callstream.toml:2): must be a table with some of ")
    assert told.endswith("warn_at, slow_at, ceiling")


def test_an_unknown_key_is_refused_wherever_it_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "[web]\nprot = 1\n\n[logs]\nlevle = 'info'\n")
    monkeypatch.setenv("CALLSTREAM_PARTITION", "4")
    monkeypatch.setenv("CALLSTREAM_TRACING__AGENT__HOST", "x")
    found = problems()
    assert len(found) == 4
    assert any(
        p.startswith("web.prot = 1 (callstream.toml:2): there is no such setting; did you mean web.port?")
        for p in found
    )
    assert any("logs.levle" in p and "did you mean logs.level?" in p and "callstream.toml:5" in p for p in found)
    assert any("(env CALLSTREAM_PARTITION)" in p and "did you mean partitions?" in p for p in found)
    assert any(p.startswith("tracing.agent") and "env CALLSTREAM_TRACING__AGENT__HOST" in p for p in found)


def test_names_that_are_not_settings_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALLSTREAM_TEST_BROKER", "CALLSTREAM_REQUIRE_ALL", "CALLSTREAM_DEBUG", "CALLSTREAM_API_KEY"):
        monkeypatch.setenv(name, "1")
    load()


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        (
            "CALLSTREAM_PARTITIONS",
            "many",
            "partitions = 'many' (env CALLSTREAM_PARTITIONS): input should be a valid integer",
        ),
        ("CALLSTREAM_PARTITIONS", "0", "greater than or equal to 1"),
        ("CALLSTREAM_BROKER", "kafka://x", "broker = 'kafka://x'"),
        ("CALLSTREAM_LOGS__FORMAT", "xml", "'json' or 'console'"),
        ("CALLSTREAM_TRACING__SAMPLE_RATE", "nan", "tracing.sample_rate"),
        ("CALLSTREAM_WEB__HOST", "0.0.0.0", "web (env CALLSTREAM_WEB__HOST): host '0.0.0.0' can be reached"),
        ("CALLSTREAM_WEB", "{", "web (env CALLSTREAM_WEB): takes JSON, and this is none"),
        ("CALLSTREAM_WEB__PORT__X", "1", "web.port"),
        ("CALLSTREAM_RETENTION_HOURS", "1", "seen_hours (24) is longer than retention_hours (1)"),
        ("CALLSTREAM_BLOBS__KEEP_HOURS", "100", "blobs.keep_hours (100) is less than retention_hours (168)"),
        ("CALLSTREAM_BLOBS__MAX_BYTES", "4096", "web.max_blob_bytes (16,777,216) is more than blobs.max_bytes (4,096)"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert wanted in problems()[0]


def test_blobs_hold_whatever_an_event_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTREAM_BLOBS__MAX_BYTES", "1000000")
    monkeypatch.setenv("CALLSTREAM_WEB__MAX_BLOB_BYTES", "1000000")
    assert "blobs.max_bytes (1,000,000) is less than the largest event has (4,259,840)" in problems()[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("partitions = ", "callstream.toml: not TOML"),
        ("partitions = 1\npartitions = 2", "not TOML"),
        ("web = 3", "web = 3"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder: Path, text: str, wanted: str) -> None:
    write(folder, text)
    assert wanted in problems()[0]


def test_a_file_that_is_not_utf8_is_named(folder: Path) -> None:
    (folder / "callstream.toml").write_bytes(b"# \xff")
    assert "not UTF-8 at byte 2" in problems()[0]


def test_secrets_are_shown_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, POOLS)
    secret = "hush-hush-hush-hush"
    monkeypatch.setenv("CALLSTREAM_INFERENCE__POOLS__WRITER__ENDPOINTS__0__API_KEY", secret)
    monkeypatch.setenv("CALLSTREAM_WEB__API_KEYS__0__KEY", secret)
    monkeypatch.setenv("CALLSTREAM_WEB__API_KEYS__0__TENANT", "acme")
    shown = {setting.key: setting.value for setting in origins(load())}
    assert shown["inference.pools.writer.endpoints.0.api_key"] == "***"
    assert shown["web.api_keys.0.key"] == "***"
    assert secret not in str(shown)
    monkeypatch.setenv("CALLSTREAM_WEB__API_KEYS__0__KEY", "short-secret")
    monkeypatch.setenv("CALLSTREAM_WEB__API_KYE", secret)
    text = "\n".join(problems())
    assert secret not in text
    assert "short-secret" not in text
    assert "at least 16 characters" in text


KEYED = """
[[inference.pools.writer.endpoints]]
name = "a"
base_url = "http://127.0.0.1:1/v1"
model = "m"
api_key = "sk-hush-hush"
"""


def test_a_key_in_the_file_is_refused_and_told_where_to_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "CALLSTREAM_INFERENCE__POOLS__WRITER__ENDPOINTS__0__API_KEY"
    for text, line in ((KEYED, 6), (POOLS.replace("model =", "api_key = 'sk-hush-hush', model ="), 3)):
        write(folder, text)
        (told,) = problems()
        assert told.startswith(
            f"inference.pools.writer.endpoints.0.api_key (callstream.toml:{line}): a key is never kept with the "
            f"settings. Set {variable}, or put it into a file of its own and name that with api_key_file; "
        )
        assert "hush" not in told
    # nor is it kept there while a variable replaces it
    monkeypatch.setenv(variable, "sk-another")
    assert len(problems()) == 1
    write(folder, KEYED.replace("api_key =", "api_key_file ="))
    assert "api_key and api_key_file are both set" in problems()[0]
    # a file of the key's own is named in full, as are limits of tokens
    monkeypatch.delenv(variable)
    write(folder, KEYED.replace('api_key = "sk-hush-hush"', "limits.tokens_per_minute = 0\napi_key_file = 3"))
    first, second = problems()
    assert first.startswith("inference.pools.writer.endpoints.0.api_key_file = 3 (callstream.toml:7): ")
    assert second.startswith("inference.pools.writer.endpoints.0.limits.tokens_per_minute = 0 (callstream.toml:6): ")


VARIABLE = "CALLSTREAM_INFERENCE__POOLS__WRITER__ENDPOINTS__0__API_KEY"


@pytest.mark.parametrize(
    ("more", "key", "told"),
    [
        ("", "", f"api_key (env {VARIABLE}): endpoint a: api_key is empty"),
        ("", " ", f"api_key (env {VARIABLE}): endpoint a: api_key is empty"),
        ("", "sk-hush\nsk-two", f"api_key (env {VARIABLE}): endpoint a: api_key must be printable ASCII"),
        (
            'api_key_file = "gone"',
            None,
            "api_key_file (callstream.toml:6): endpoint a: api_key_file gone cannot be read",
        ),
        ('api_key_file = "empty"', None, "api_key_file (callstream.toml:6): endpoint a: api_key_file empty is empty"),
        ('headers = { X-A = "sk-hush\\nb" }', None, "headers.X-A (callstream.toml:6): endpoint a: header X-A must be"),
    ],
)
def test_a_secret_that_cannot_be_sent_is_found_before_a_worker_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: str, key: str | None, told: str
) -> None:
    write(folder, KEYED.replace('api_key = "sk-hush-hush"', more))
    write(folder, " \n", "empty")
    if key is not None:
        monkeypatch.setenv(VARIABLE, key)
    # who has no use for a key may not be able to read it
    settings = load()
    with pytest.raises(SettingsError) as caught:
        check_secrets(settings)
    (problem,) = caught.value.problems
    assert problem.startswith(f"inference.pools.writer.endpoints.0.{told}")
    assert "hush" not in problem


def test_secrets_that_can_be_sent_are_fine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, POOLS)
    check_secrets(load())
    monkeypatch.setenv(VARIABLE, "sk-abcdefgh\n")
    check_secrets(load())


def test_a_bearer_token_among_the_headers_is_told_where_to_go(folder: Path) -> None:
    write(folder, KEYED.replace('api_key = "sk-hush-hush"', 'headers = { Authorization = "Bearer sk-hush" }'))
    (problem,) = problems()
    assert problem.startswith("inference.pools.writer.endpoints.0.headers.Authorization = *** (callstream.toml:6): ")
    assert "api_key" in problem
    assert "hush" not in problem


def test_a_name_that_will_not_do_is_told_with_its_value_and_what_is_allowed(folder: Path) -> None:
    write(folder, "[inference.lanes]\nhigh = 3\nurgent = 7\n")
    assert problems() == (
        "inference.lanes.urgent = 7 (callstream.toml:3): the name 'urgent' should be 'high', 'normal' or 'low'",
    )
    write(folder, '[inference.accounts."No good"]\nrequests_per_minute = 5\n')
    (problem,) = problems()
    assert problem.startswith("inference.accounts.No good (callstream.toml:1): the name 'No good' should match pattern")


@pytest.mark.parametrize("value", ["0", "-5", "nan", "1e999", "true"])
def test_a_limit_that_is_none_is_named_with_its_line(folder: Path, value: str) -> None:
    write(folder, f"[inference.accounts.acme]\nrequests_per_minute = {value}\n")
    (told,) = problems()
    assert told.startswith("inference.accounts.acme.requests_per_minute = ")
    assert "(callstream.toml:2)" in told


def test_an_account_that_is_not_declared_is_named_with_those_that_are(folder: Path) -> None:
    write(folder, KEYED.replace('api_key = "sk-hush-hush"', 'account = "acmee"') + "[inference.accounts.acme]\n")
    (told,) = problems()
    assert told.startswith("inference (callstream.toml): ")
    assert "endpoint a names the account 'acmee', which is not declared in inference.accounts; there are: acme" in told


def test_what_is_kept_on_disk_follows_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTREAM_DATA_FOLDER", "/var/data")
    settings = load()
    assert settings.embedded.folder == Path("/var/data/kafka")
    assert settings.blobs.url == "file:///var/data/blobs"
    monkeypatch.setenv("CALLSTREAM_BLOBS__URL", "s3://bucket")
    assert load().blobs.url == "s3://bucket"


def test_alarms_that_cannot_be_meant_are_said(folder: Path) -> None:
    secret = "whsec_bXkgdmVyeSBzZWNyZXQgc2VjcmV0IGZvciB0ZXN0cyE="
    hook = f'[[alarms.webhooks]]\nurl = "http://10.0.0.1/hook"\nsecret = "{secret}"\n'
    write(folder, hook)
    (said,) = problems()
    assert "alarms.webhooks.0.url leads to an address that is not public: name another, or set notify" in said
    assert secret not in said
    write(folder, hook + "[notify]\nallow_private = true\n")
    assert load().alarms.webhooks[0].private
    rule = '[[alarms.rules]]\nname = "open"\nkind = "breaker"\n'
    write(folder, POOLS + rule + 'threshold = 1\npool = "reader"\n')
    assert problems() == ("together: alarms.rules: 'open' names pool 'reader'; there are: writer",)
    write(folder, rule + "threshold = 0\n")
    assert [said.partition(" (")[0] for said in problems()] == ["alarms.rules.0.threshold = 0"]
    write(folder, (rule + "threshold = 1\n") * 2)
    assert "two rules are called 'open'" in problems()[0]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().partitions = 3


def test_every_setting_has_a_description_and_a_variable_that_leads_back_to_it() -> None:
    for setting in origins(load()):
        path = tuple(setting.key.split("."))
        assert environment_name(path) == setting.variable
        if get_origin(annotation_at(Settings, path[:-1])) is dict:
            path = path[:-1]
        above = annotation_at(Settings, path[:-1])
        assert above.model_fields[path[-1]].description, setting.key


def test_lines_are_found_through_tables_arrays_and_dotted_keys() -> None:
    text = 'a.b = 1\n[t]\nx = 1\n[[t.list]]\ny = 1\n[[t.list]]\ny = 2\n[t.list.inner]\n"q.r" = 3\n'
    assert lines_of(text) == {
        ("a", "b"): 1,
        ("t",): 2,
        ("t", "x"): 3,
        ("t", "list", 0): 4,
        ("t", "list", 0, "y"): 5,
        ("t", "list", 1): 6,
        ("t", "list", 1, "y"): 7,
        ("t", "list", 1, "inner"): 8,
        ("t", "list", 1, "inner", "q.r"): 9,
    }


@given(st.text(max_size=200))
def test_no_text_breaks_the_line_finder(text: str) -> None:
    lines_of(text)


SINKS = '[sinks.shop-copy]\nkind = "redis"\nurl = "redis://cache:6379/0"\n'


def test_a_sink_has_its_password_by_a_variable_or_a_file_and_never_among_the_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, f'{SINKS}api_key = "hush-hush"\n')
    (problem,) = problems()
    assert problem.startswith("sinks.shop-copy.api_key (callstream.toml:4): a key is never kept with the settings.")
    assert "Set CALLSTREAM_SINKS__SHOP_COPY__API_KEY, or put it into a file" in problem
    write(folder, SINKS)
    monkeypatch.setenv("CALLSTREAM_SINKS__SHOP_COPY__API_KEY", "hush-hush")
    assert load().sinks["shop-copy"].secret("shop-copy") == "hush-hush"
    monkeypatch.delenv("CALLSTREAM_SINKS__SHOP_COPY__API_KEY")
    write(folder, f'{SINKS}api_key_file = "gone"\n')
    with pytest.raises(SettingsError, match=r"sinks\.shop-copy\.api_key_file \(callstream\.toml:4\): sink shop-copy"):
        check_secrets(load())


def test_a_sink_that_cannot_be_is_named_with_where_and_why(folder: Path) -> None:
    write(folder, SINKS.replace("redis://cache:6379/0", "redis://:hush@cache"))
    (problem,) = problems()
    assert "sinks.shop-copy" in problem
    assert "must hold no password: set api_key" in problem
    assert "hush" not in problem
