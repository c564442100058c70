"""A task as the gateway shows it, with what its latest event on the topics carries."""

from callstream.cli.client import Api, ApiError
from callstream.cli.comparing import Side
from callstream.cli.errors import CliError
from callstream.streams.blobs import BlobStore
from callstream.streams.event import Json
from callstream.streams.keys import task_key
from callstream.streams.replay.find import find_event
from callstream.streams.replay.recorded import Topics
from callstream.streams.topics import FINISHED, REVIEW, lanes_of, topic_of

SLACK_SECONDS = 30.0
UNKNOWN_STATUS = 404


async def row_of(api: Api, task: str) -> Json:
    """The row of a task. Raises CliError when there is none."""
    try:
        return await api.task(task)
    except ApiError as error:
        if error.status == UNKNOWN_STATUS:
            raise CliError(
                f"no task {task!r} is known: see `callstream tail`, and finished_hours in the settings"
            ) from None
        raise


async def side_of(topics: Topics, blobs: BlobStore, row: Json) -> Side:
    """A task with the input and outputs that its latest event carries, if that is still there."""
    following = row.get("next")
    name = REVIEW if row["state"] == "held" else FINISHED
    names = lanes_of(following["service"]) if following and row["state"] != "held" else (name,)
    since = max([row["created"], *(hop["ended"] for hop in row["steps"][-1:])]) - SLACK_SECONDS
    key = task_key(row["tenant"], row["id"])
    event = await find_event(topics, blobs, [topic_of(one) for one in names], key, max(0.0, since))
    return Side(row) if event is None else Side(row, event.input, event.body.outputs)
