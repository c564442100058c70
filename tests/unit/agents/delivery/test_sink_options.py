from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from callstream.agents.delivery import CatalogueSink, SinkOptions
from callstream.agents.delivery.http_sink import HttpSink
from callstream.agents.delivery.object_sink import ObjectSink
from callstream.agents.delivery.redis_sink import RedisSink
from callstream.agents.delivery.sinks import make_sink
from callstream.agents.secret import UnusableSecret


def options(**given: Any) -> SinkOptions:
    return SinkOptions.model_validate(given)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"kind": "redis", "url": "redis://cache:6379/0", "prefix": "shop:"}, RedisSink),
        ({"kind": "redis", "url": "unix:///run/redis.sock"}, RedisSink),
        ({"kind": "http", "url": "https://shop.example/copy"}, HttpSink),
        ({"kind": "object-store", "url": "memory:///"}, ObjectSink),
        ({"kind": "sql", "url": "postgresql://shop@db/catalogue", "api_key": "hush"}, CatalogueSink),
        ({"kind": "sql", "url": "postgresql://shop@/catalogue?host=/run", "api_key": "hush"}, CatalogueSink),
    ],
)
async def test_a_sink_of_each_kind(given: dict[str, Any], kind: type) -> None:
    sink = make_sink("shop", options(**given))
    assert isinstance(sink, kind)
    await sink.close()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "ftp"}, "'sql', 'redis', 'http', 'object-store' or 'topic'"),
        ({"kind": "redis"}, r"needs a url such as redis://HOST:6379/0"),
        ({"kind": "redis", "url": "https://host"}, "begins with redis:, rediss:, unix:"),
        ({"kind": "redis", "url": "redis://u:hush@host"}, "must hold no password: set api_key"),
        ({"kind": "redis", "url": "redis://:hush@host"}, "must hold no password: set api_key"),
        ({"kind": "redis", "url": "redis://host?password=hush"}, "must hold no password: set api_key"),
        ({"kind": "http", "url": "https://host/?a=1"}, "no user, query or fragment"),
        ({"kind": "http", "url": "https://hush@host/"}, "no user, query or fragment"),
        ({"kind": "http", "url": "https:///path"}, "must name a host"),
        ({"kind": "http", "url": "https://host/a b"}, "printable ASCII"),
        ({"kind": "http", "url": "https://host", "prefix": "x"}, "prefix is for kind 'redis' only"),
        ({"kind": "http", "url": "https://host", "topic": "x"}, "topic is for kind 'topic' only"),
        ({"kind": "sql", "url": "postgresql://shop@db"}, "names no database"),
        ({"kind": "topic"}, "needs topic, its name"),
        ({"kind": "topic", "topic": "callstream.dead"}, "is reserved"),
        ({"kind": "topic", "topic": "shop", "url": "https://host"}, "takes no url"),
        ({"kind": "topic", "topic": "shop", "api_key": "hush"}, "takes no api_key"),
        ({"kind": "object-store", "url": "s3://b/p", "api_key_file": "x"}, "takes no api_key"),
        ({"kind": "http", "url": "https://host", "api_key": "hush", "api_key_file": "x"}, "are both set"),
        ({"kind": "http", "url": "https://host", "tokn": "x"}, "Extra inputs"),
    ],
)
def test_what_is_no_sink_is_told_without_repeating_secrets(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        options(**given)
    assert "hush" not in str(refused.value)


def test_the_secret_is_read_when_it_is_needed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    given = options(kind="http", url="https://host", api_key_file=str(key))
    with pytest.raises(UnusableSecret, match=r"sink shop: api_key_file .* cannot be read"):
        given.secret("shop")
    key.write_text("hush\n")
    assert given.secret("shop") == "hush"
    assert options(kind="http", url="https://host").secret("shop") is None
    assert "hush" not in repr(options(kind="http", url="https://host", api_key=SecretStr("hush")))


def test_a_password_with_any_character_reaches_the_database() -> None:
    given = options(kind="sql", url="postgresql://shop@db/catalogue")
    assert given.database("h/u@s:h%").url.password == "h/u@s:h%"
    assert given.database(None).url.password is None
