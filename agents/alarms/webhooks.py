"""Tells of alarms by webhook: each ring and each end once to each of those that are set, signed, tried again in bounds.

It is an actor on the topic `alarms`, so what was not told when a worker died is told by the next one, under the same
id. A receiver that cannot be told is given up with a line in the log and a count: it holds nothing up, and what would
be a dead letter of an alarm would ring an alarm.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry, Counter

from callstream.agents.alarms.incident import event_id, read_incident
from callstream.agents.alarms.options import AlarmWebhook
from callstream.agents.notification.notifier import policy_of
from callstream.agents.notification.options import NotifyOptions
from callstream.agents.notification.payload import signed
from callstream.agents.notification.sender import NotTaken, Sender, Taken
from callstream.agents.ports import Policy
from callstream.streams import strict_json
from callstream.streams.chain import Cell
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Keep, Outcome, Retry
from callstream.streams.wire import timestamp

log = logging.getLogger("callstream.alarms")

SERVICE = "alarms"
SENT = "callstream_alarm_webhooks"
MOST_DONE = 1_000


class AlarmWebhooks:
    """The role. `clock` gives epoch seconds; the counter's labels are the place of a webhook in the settings, and what
    came of it: `delivered`, `again`, or the kind of its failure.
    """

    service = SERVICE
    stateful = False

    def __init__(
        self,
        webhooks: Sequence[AlarmWebhook],
        options: NotifyOptions,
        sender: Sender,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._webhooks = tuple(webhooks)
        self._options = options
        self._sender = sender
        self._clock = clock
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._counter = Counter(SENT, "Attempts to tell of alarms.", ("webhook", "outcome"), registry=registry)

    def policy(self, event: Event) -> Policy:
        """As callbacks are tried."""
        return replace(policy_of(SERVICE, self._options), ends_task=False, traced=False)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Tell everybody who has not been told yet."""
        incident = read_incident(strict_json.dumps(event.input))
        name = event_id(incident)
        told = {"type": f"alarm.{name.rpartition('/')[2]}", "timestamp": timestamp(incident.time)}
        body = strict_json.dumps({**told, "data": incident.told()})
        left = [number for number in range(len(self._webhooks)) if (name, number) not in self._done]
        answers = await asyncio.gather(*(self._tell(number, name, body) for number in left))
        again = None
        for number, answer in zip(left, answers, strict=True):
            if isinstance(answer, NotTaken) and answer.again and event.attempt < self._options.attempts:
                self._counter.labels(str(number), "again").inc()
                again = Retry(Failure(kind=answer.kind, message=answer.message), answer.after_seconds)
                continue
            self._finish(name, number, answer)
        return again or Keep()

    async def _tell(self, number: int, name: str, body: bytes) -> Taken | NotTaken:
        webhook = self._webhooks[number]
        headers = signed(webhook.secret.get_secret_value(), webhook_id(name), body, self._clock())
        return await self._sender.post(webhook.url, body, headers)

    def _finish(self, name: str, number: int, answer: Taken | NotTaken) -> None:
        self._done[name, number] = None
        if len(self._done) > MOST_DONE:
            self._done.popitem(last=False)
        if isinstance(answer, Taken):
            self._counter.labels(str(number), "delivered").inc()
            return
        self._counter.labels(str(number), answer.kind).inc()
        log.error("alarm %s was not told to alarms.webhooks.%d: %s: %s", name, number, answer.kind, answer.message)


def webhook_id(name: str) -> str:
    """Of an event that tells of an alarm: the same in every attempt."""
    return "msg_" + hashlib.sha256(name.encode()).hexdigest()[:32]
