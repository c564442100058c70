"""The bytes behind a photo's reference, or what becomes of a task whose photo cannot be had."""

from callstream.agents.prepare.attributes import PhotoOptions
from callstream.agents.tools import Tools
from callstream.streams.blobs import BlobError, BlobMissing, BlobTooLarge
from callstream.streams.event import Failure
from callstream.streams.outcome import Bury, Outcome, Retry


async def fetched(tools: Tools, reference: str, options: PhotoOptions, step: str) -> bytes | Outcome:
    """The photo's file. Bury kinds: `bad-image`, `photo-missing`."""
    try:
        data = await tools.blobs.get(reference)
    except BlobMissing as error:
        return Bury(Failure(kind="photo-missing", message=str(error), step=step))
    except BlobTooLarge as error:
        return Bury(Failure(kind="bad-image", message=str(error), step=step))
    except BlobError as error:
        return Retry(Failure(kind="blob-store", message=str(error), step=step))
    if len(data) > options.max_bytes:
        message = f"the photo has {len(data):,} bytes; at most {options.max_bytes:,} are opened"
        return Bury(Failure(kind="bad-image", message=message, step=step))
    return data
