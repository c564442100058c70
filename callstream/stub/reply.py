"""A reply to a customer, by what the message is about. Pure but for a file of phrases that is read once."""

import re

from callstream.stub.phrases import replies
from callstream.stub.prompt import Brief, field_lines

LANGUAGES = ("en", "zh")
ABOUT = {
    "refund": r"money back|refund|\breturn|退款|退货|退钱",
    "delivery": r"where is|tracking|deliver|parcel|carrier|快递|物流|还没到|什么时候到",
    "complaint": r"complain|broken|crack|disappoint|terrible|unacceptable|投诉|差评|失望|坏了|太差",
    "product": r"\?|？|\b(?:does|can|how|which|what)\b|吗|多少|哪",
}
"""The first whose words a message has."""
_ABOUT = {about: re.compile(words, re.IGNORECASE) for about, words in ABOUT.items()}
_ASKED = re.compile(r"customer (?:service|support)|support agent|客服", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:in|auf|en)\s+(English|Chinese)\b", re.IGNORECASE)


def is_asked_for(system: str) -> bool:
    """Whether the instructions want an answer to a customer."""
    return _ASKED.search(system) is not None


def write_reply(system: str, brief: Brief) -> str:
    """The reply, in the language that the instructions name, else in that of the message."""
    named = _NAMED.search(system)
    language = {"english": "en", "chinese": "zh"}[named[1].lower()] if named else brief.language
    words = replies()[language if language in LANGUAGES else "en"]
    lines = field_lines(brief.text)
    message = lines.get("message", brief.text)
    about = next((about for about, pattern in _ABOUT.items() if pattern.search(message)), "other")
    hello = words["hello"].format(name=lines["name"]) if "name" in lines else words["nobody"]
    order = words["order"].format(order=lines["order"]) if "order" in lines else ""
    return hello + order + words[about]
