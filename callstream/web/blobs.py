"""Pictures come in beside their tasks: POST /v1/blobs keeps the bytes, the submission carries the reference."""

from aiohttp import web

from callstream.streams.blobs import BlobTooLarge
from callstream.web.bodies import read
from callstream.web.context import CONTEXT
from callstream.web.picture import NoPicture, inspect
from callstream.web.problems import Problem
from callstream.web.tasks import json_response


async def post_blob(request: web.Request) -> web.Response:
    """POST /v1/blobs: raw bytes of a picture; 201 with the reference to put into a submission's input."""
    context = request.app[CONTEXT]
    media_type = request.content_type
    if not (media_type.startswith("image/") or media_type == "application/octet-stream"):
        raise Problem(415, "wrong-content-type", "send raw bytes with 'Content-Type: image/…', no form and no JSON")
    data = await read(request, context.options.max_blob_bytes)
    try:
        picture = inspect(data)
    except NoPicture as error:
        raise Problem(422, "no-picture", str(error)) from None
    most = context.options.max_picture_pixels
    if picture.pixels > most:
        size = f"{picture.width:,} × {picture.height:,} pixels"
        raise Problem(422, "picture-too-large", f"the picture unpacks to {size}; at most {most:,} pixels are taken")
    try:
        reference = await context.port.put_blob(data)
    except BlobTooLarge as error:
        raise Problem(413, "too-large", str(error)) from None
    return json_response({"blob": reference, "kind": picture.kind, "bytes": len(data)}, status=201)
