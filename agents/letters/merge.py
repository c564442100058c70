"""JSON merge patches (RFC 7386): what a patch makes of a document. Pure."""

from typing import Any


def merged(document: Any, patch: Any) -> Any:
    """The document with the patch: members of objects are set, `null` takes one away, anything else replaces.

    >>> merged({"title": "mug", "tags": ["a"], "old": 1}, {"tags": ["b"], "old": None})
    {'title': 'mug', 'tags': ['b']}
    """
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found
