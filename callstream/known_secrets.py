"""Secrets of the settings, in the clear: for what must be kept out of records, and for nothing else."""

from collections.abc import Iterator
from contextlib import suppress

from callstream.agents.inference.options import InferenceOptions
from callstream.agents.secret import UnusableSecret
from callstream.settings import Settings


def known_secrets(settings: Settings) -> Iterator[str]:
    """What a step could meet: keys and secret headers of endpoints, passwords of its stores, what signs alarms."""
    yield from model_secrets(settings.inference)
    yield str(settings.delivery.url.password or "")
    for name, sink in settings.sinks.items():
        with suppress(UnusableSecret):
            yield sink.secret(name) or ""
    yield from (webhook.secret.get_secret_value() for webhook in settings.alarms.webhooks)


def model_secrets(options: InferenceOptions) -> Iterator[str]:
    """Keys and secret headers of endpoints; of one whose key cannot be read there is none to be kept out."""
    for endpoint in options.endpoints().values():
        with suppress(UnusableSecret):
            for value in endpoint.secret_headers().values():
                yield value.removeprefix("Bearer ")
