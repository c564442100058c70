"""What a process of the pool does with one photo. Needs the extra `vision`; only such a process imports it."""

import io

from callstream.agents.prepare.attributes import PhotoOptions, Seen
from callstream.agents.prepare.colours import dominant
from callstream.agents.prepare.image import open_photo
from callstream.agents.prepare.ocr import read
from callstream.agents.prepare.quality import judged, sharpness


def look(data: bytes, options: PhotoOptions) -> Seen:
    """Open a photo, name its colours, read its text and judge how fit it is. Raises BadImage."""
    photo = open_photo(data, options)
    lines, unread = read(photo.image, options)
    picture = judged(photo.picture, sharpness(photo.image), lines, unread, options)
    notes = (f"photo: {', '.join(picture.problems)}",) if picture.problems else ()
    return Seen(picture, dominant(photo.image), lines, (*photo.notes, *notes))


def reduced(data: bytes, options: PhotoOptions) -> bytes:
    """A photo as a model is shown it: a JPEG, upright, at most `shown_side_pixels` long. Raises BadImage."""
    image = open_photo(data, options).image
    image.thumbnail((options.shown_side_pixels, options.shown_side_pixels))
    shown = io.BytesIO()
    image.save(shown, "JPEG", quality=85)
    return shown.getvalue()
