"""What a callback says and how it is signed: Standard Webhooks. Pure."""

import hashlib
from datetime import UTC, datetime

from standardwebhooks import Webhook

from callstream.streams import strict_json
from callstream.streams.event import Event, Json
from callstream.streams.keys import event_id
from callstream.streams.wire import timestamp


def payload(event: Event) -> bytes:
    """The body for a task that has ended: the same bytes in every attempt."""
    body = event.body
    failure = None
    if body.failure is not None:
        failure = body.failure.model_dump(include={"kind", "message", "step"})
    data: Json = {
        "id": event.task,
        "tenant": event.tenant,
        "chain": event.chain,
        "state": str(body.end),
        "result": body.result,
        "failure": failure,
    }
    return strict_json.dumps({"type": f"task.{body.end}", "timestamp": timestamp(event.time), "data": data})


def webhook_id(event: Event) -> str:
    """The same for each end that a run of a task may be told under, so that a receiver can tell a repeat.

    After a crash a run can end a second time, at another step (docs/guide/guarantees.md). Without dots, which part
    what is signed.
    """
    return "msg_" + hashlib.sha256(event_id(event.key, 0, 1, event.run).encode()).hexdigest()[:32]


def signed_headers(secret: str, event: Event, body: bytes, now: float) -> dict[str, str]:
    """The headers of one attempt at `now` (epoch seconds)."""
    return signed(secret, webhook_id(event), body, now)


def signed(secret: str, identity: str, body: bytes, now: float) -> dict[str, str]:
    """The headers of one attempt at `now` (epoch seconds) to send a webhook of that id."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": Webhook(secret).sign(identity, moment, body.decode()),
        "content-type": "application/json",
        "user-agent": "callstream-webhooks/1",
    }
