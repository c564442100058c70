"""What review sends beside what follows from a verdict: the timer for a due time, a remark for who shows the task."""

from callstream.streams import topics
from callstream.streams.event import TASK_REVIEWED, Event
from callstream.streams.outcome import Reviewed
from callstream.streams.timing import delayed
from callstream.streams.topics import topic_of
from callstream.streams.wire import Record, encode


def beside(event: Event, outcome: Reviewed) -> list[Record]:
    """The records, in the order in which they are to be sent. Raises ValueError."""
    records = []
    if outcome.due is not None:
        due, at = outcome.due
        records.append(delayed(encode(due, topic_of(topics.VERDICTS)), at))
    if outcome.told is not None:
        records.append(encode(event.saying(TASK_REVIEWED, topics.REVIEW, outcome.told), topic_of(topics.NOTIFIED)))
    return records
