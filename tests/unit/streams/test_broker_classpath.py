"""The remembered class path, the resolver's protocol and Maven's settings."""

import io
from pathlib import Path

import pytest

from callstream.streams.broker.classpath import (
    ClassPath,
    Jar,
    cache_file,
    coordinates,
    follow,
    joined,
    read_cache,
    unavailable,
)
from callstream.streams.broker.maven import MavenSettings, covers_central, parse_settings
from callstream.streams.broker.options import BrokerOptions

WANTED = coordinates("4.1.2")


def remember(tmp_path: Path) -> tuple[Path, Path]:
    """A cache file that names one jar of four bytes; returns both."""
    jar, cache = tmp_path / "a.jar", tmp_path / "cache.json"
    jar.write_bytes(b"jar!")
    cache.write_text(ClassPath(coordinates=WANTED, jars=(Jar(path=jar, size_bytes=4),)).model_dump_json())
    return jar, cache


def test_a_whole_class_path_is_used_again(tmp_path: Path) -> None:
    jar, cache = remember(tmp_path)
    found = read_cache(cache, WANTED)
    assert found is not None
    assert [one.path for one in found.jars] == [jar]


def test_a_missing_jar_makes_it_void(tmp_path: Path) -> None:
    jar, cache = remember(tmp_path)
    jar.unlink()
    assert read_cache(cache, WANTED) is None


def test_a_jar_of_another_size_makes_it_void(tmp_path: Path) -> None:
    jar, cache = remember(tmp_path)
    jar.write_bytes(b"ja")
    assert read_cache(cache, WANTED) is None


def test_other_coordinates_make_it_void(tmp_path: Path) -> None:
    _, cache = remember(tmp_path)
    assert read_cache(cache, coordinates("4.1.1")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"coordinates": [], "jars": []}', '{"jars": 1}'])
def test_a_garbled_cache_is_void(tmp_path: Path, text: str) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(text)
    assert read_cache(cache, WANTED) is None
    assert read_cache(tmp_path / "none.json", WANTED) is None


def test_no_jars_are_no_class_path() -> None:
    assert not ClassPath(coordinates=WANTED, jars=()).is_whole()


def test_class_path_is_joined_in_order() -> None:
    assert joined([Path("/b.jar"), Path("/a.jar")]) in ("/b.jar:/a.jar", "/b.jar;/a.jar")


def test_progress_is_handed_on_and_the_jars_are_returned() -> None:
    # given what a resolver prints, with a stray line of a library
    lines = io.BytesIO(b'{"text": "a.jar", "done": 1, "total": 2}\nwarning\n{"jars": ["/a.jar"]}\n')
    heard: list[tuple[str, int, int | None]] = []
    # when it is followed
    said = follow(lines, lambda text, done, total: heard.append((text, done, total)))
    # then
    assert heard == [("a.jar", 1, 2)]
    assert said["jars"] == ["/a.jar"]
    assert follow(io.BytesIO(b""), lambda text, done, total: None) == {}


def test_what_cannot_be_had_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    options = BrokerOptions(cache_folder=tmp_path)
    text = unavailable(options, "no route", "/m2")
    assert "Kafka 4.1.2 could not be downloaded: no route" in text
    assert str(cache_file(options)) in text
    assert "Maven repository /m2" in text
    assert "CALLSTREAM_BROKER" in text


SETTINGS = b"""<?xml version="1.0"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">
  <localRepository>${user.home}/jars</localRepository>
  <mirrors>
    <mirror><id>other</id><mirrorOf>snapshots</mirrorOf><url>https://other.example</url></mirror>
    <mirror><id>all</id><mirrorOf>*</mirrorOf><url>https://${env.MIRROR}/maven/</url></mirror>
  </mirrors>
</settings>"""


def test_mirror_and_local_repository_are_taken_from_the_settings() -> None:
    found = parse_settings(SETTINGS, {"HOME": "/home/me", "MIRROR": "mirror.example"})
    assert found == MavenSettings("https://mirror.example/maven", Path("/home/me/jars"))


def test_settings_without_either_mean_the_defaults() -> None:
    assert parse_settings(b"<settings/>", {}) == MavenSettings(None, None)


def test_settings_that_are_not_xml_are_refused() -> None:
    with pytest.raises(ValueError, match="not XML"):
        parse_settings(b"<settings>", {})


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("*", True),
        ("central", True),
        ("external:*", True),
        ("a, central", True),
        ("*,!central", False),
        ("a", False),
        ("", False),
    ],
)
def test_which_mirrors_stand_for_central(pattern: str, covered: bool) -> None:
    assert covers_central(pattern) is covered
