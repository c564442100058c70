"""Notification: a signed POST to the callback of a task that has ended."""

from callstream.agents.notification.address import AddressRefused, refusal
from callstream.agents.notification.notifier import Notifier
from callstream.agents.notification.options import NotifyOptions
from callstream.agents.notification.payload import payload, signed_headers, webhook_id

__all__ = ["AddressRefused", "Notifier", "NotifyOptions", "payload", "refusal", "signed_headers", "webhook_id"]
