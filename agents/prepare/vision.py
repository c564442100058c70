"""What a process of the pool does with one photo. Needs the extra `vision`; only such a process imports it."""

from callstream.agents.prepare.attributes import PhotoOptions, Seen
from callstream.agents.prepare.colours import dominant
from callstream.agents.prepare.image import open_photo
from callstream.agents.prepare.ocr import read


def look(data: bytes, options: PhotoOptions) -> Seen:
    """Open a photo, name its colours and read its text. Raises BadImage."""
    photo = open_photo(data, options)
    return Seen(photo.picture, dominant(photo.image), read(photo.image, options), photo.notes)
