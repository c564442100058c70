"""Tasks whose body is gone: it was a claim check, and the blob store has it no more. They end, and say why.

The record itself is a dead letter as any that cannot be read, with its reference, so that it can be sent again once the
blob is back. Its headers say whose task it was and where it stood, which is enough to end it.
"""

from collections.abc import Iterable

from callstream.agents.settle import Work, line, settle
from callstream.streams import strict_json
from callstream.streams.chain import Chains
from callstream.streams.event import NO_DIGEST, TASK, TASK_HELD, TASK_UNDO, Failure, Json
from callstream.streams.outcome import Bury
from callstream.streams.wire import BadEvent, Record, decode

ENDED = frozenset({TASK, TASK_HELD, TASK_UNDO})
"""Events that are the task itself; without one of these it cannot go on."""


def ends(headers: Iterable[tuple[str, bytes | None]], reason: str, work: Work, chains: Chains) -> list[Record]:
    """The records that end the task of a record without a body; none if it has not begun, or is none.

    Whoever hands a task in may have written the record: it ends no task that has its id.
    """
    known = list(headers)
    bare: Json = {"submission": {"chain": _chain(known), "input": {}}, "digest": NO_DIGEST}
    try:
        event = decode(strict_json.dumps(bare), [(name, raw) for name, raw in known if name.lower() != "ce_dataref"])
    except BadEvent:
        return []
    if event.type not in ENDED or event.sequence == 0:
        return []
    return settle(event, Bury(Failure(kind="blob-missing", message=line(reason))), work, chains)[1:]


def _chain(headers: list[tuple[str, bytes | None]]) -> str:
    return next((raw or b"" for name, raw in headers if name.lower() == "ce_chain"), b"").decode("utf-8", "replace")
