from base64 import b64encode
from dataclasses import replace

import pytest
from pydantic import SecretStr

from callstream.agents.notification import Notifier, NotifyOptions
from callstream.streams.event import Body, End, Event, Json, Submission
from callstream.streams.outcome import Announce, Bury, Keep

SECRET = SecretStr("whsec_" + b64encode(b"k" * 32).decode())


class NoCell:
    value: Json | None = None

    async def save(self, value: Json) -> None:
        raise AssertionError("nothing is kept")


def event(callback: str | None = "https://shop.example/done", end: End | None = End.FINISHED) -> Event:
    body = Body(submission=Submission(chain="shop", input={}, callback=callback), digest="0" * 64, end=end)
    return Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=6, body=body)


async def test_who_did_not_ask_is_not_told() -> None:
    assert await Notifier(NotifyOptions()).act(event(callback=None), NoCell()) == Keep()


@pytest.mark.parametrize(
    ("options", "given", "kind"),
    [
        (NotifyOptions(), event(), "callback-secret"),
        (NotifyOptions(secret=SECRET), event(end=None), "callback-refused"),
        (NotifyOptions(secret=SECRET), event(callback="https://:80/"), "callback-refused"),
        (NotifyOptions(secret=SECRET), event(callback="https://[::1/"), "callback-refused"),
        (NotifyOptions(secret=SECRET), event(callback="https://h:99999/"), "callback-refused"),
    ],
)
async def test_what_can_never_be_sent_is_buried_and_the_task_stays_ended(
    options: NotifyOptions, given: Event, kind: str
) -> None:
    notifier = Notifier(options)
    await notifier.open()
    outcome = await notifier.act(given, NoCell())
    await notifier.close()
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == kind
    assert not outcome.ends_task


async def test_the_missing_setting_is_named() -> None:
    outcome = await Notifier(NotifyOptions()).act(event(), NoCell())
    assert isinstance(outcome, Bury)
    assert "notify.secret" in outcome.failure.message


def test_the_actor_waits_longer_than_one_try_takes() -> None:
    policy = Notifier(NotifyOptions(attempts=3, timeout_seconds=7)).policy
    assert policy.attempts.most == 3
    assert policy.timeout_seconds > 7


async def test_a_sandbox_calls_nobody_and_says_whom_it_would_have_called() -> None:
    # given an ended task of a sandbox, and a notifier that is not even open
    given = replace(event(), sandbox=True)
    # when it is to be told of
    outcome = await Notifier(NotifyOptions(secret=SECRET)).act(given, NoCell())
    # then that is all there is
    callback = given.body.submission.callback
    assert outcome == Announce({"callback": {"state": "sandbox", "attempts": 0, "url": callback}})
    nobody = await Notifier(NotifyOptions(secret=SECRET)).act(replace(event(callback=None), sandbox=True), NoCell())
    assert nobody == Keep()
