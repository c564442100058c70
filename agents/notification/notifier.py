"""Tells callers that their tasks have ended: one signed POST to the task's callback, tried again within bounds."""

import time
from collections.abc import Callable

from aiohttp.abc import AbstractResolver

from callstream.agents.notification.options import NotifyOptions
from callstream.agents.notification.payload import payload, signed_headers
from callstream.agents.notification.sender import NotTaken, Sender, Taken
from callstream.agents.ports import Policy
from callstream.streams.chain import Attempts, Cell
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Announce, Bury, Keep, Outcome, Retry

_SPARE_SECONDS = 5.0


def policy_of(step: str, options: NotifyOptions) -> Policy:
    """How an actor is to try what sends webhooks."""
    attempts = Attempts(options.attempts, options.first_pause_seconds, options.longest_pause_seconds)
    return Policy(step, attempts, options.timeout_seconds + _SPARE_SECONDS)


class Notifier:
    """Acts on ended tasks. Kinds of failure: `callback-unreachable`, `callback-busy` (both tried again),
    `callback-refused`, `callback-address`, `callback-secret`.

    A task that is over is never ended a second time: what cannot be delivered goes to the dead letters alone.
    """

    def __init__(
        self,
        options: NotifyOptions,
        clock: Callable[[], float] = time.time,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self.sender = Sender(options, clock, resolver)
        self.policy = policy_of("notify", options)

    async def open(self) -> None:
        """Make the HTTP session."""
        await self.sender.open()

    async def close(self) -> None:
        """Close its connections."""
        await self.sender.close()

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Tell one caller, if it asked to be told."""
        callback, end = event.body.submission.callback, event.body.end
        if end is None:
            return _bury("callback-refused", "the task has not ended")
        if callback is None:
            return Keep()
        if event.sandbox:
            return Announce({"callback": {"state": "sandbox", "attempts": 0, "url": callback}})
        secret = self._options.secret_of(event.tenant)
        if secret is None:
            return _bury(
                "callback-secret", f"no secret signs callbacks of tenant {event.tenant!r}: set `notify.secret`"
            )
        return await self._post(event, callback, secret)

    async def _post(self, event: Event, callback: str, secret: str) -> Outcome:
        body = payload(event)
        answer = await self.sender.post(callback, body, signed_headers(secret, event, body, self._clock()))
        match answer:
            case Taken(status):
                return Announce({"callback": {"state": "delivered", "attempts": event.attempt, "status": status}})
            case NotTaken(again=True):
                return self._again(event, answer)
        return _bury(answer.kind, answer.message)

    def _again(self, event: Event, answer: NotTaken) -> Outcome:
        if event.attempt >= self._options.attempts:
            return _bury(answer.kind, f"{answer.message}, in attempt {event.attempt} of {self._options.attempts}")
        return Retry(Failure(kind=answer.kind, message=answer.message), answer.after_seconds)


def _bury(kind: str, message: str) -> Bury:
    return Bury(Failure(kind=kind, message=message, step="notify"), ends_task=False)
