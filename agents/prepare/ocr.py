"""Reading the text on a photo with rapidocr: models from its wheel, one thread. Needs the extra `vision`."""

import functools
import importlib
from typing import Any

import numpy as np
from PIL import Image

from callstream.agents.prepare.attributes import Line, PhotoOptions

MOST_LINE_CHARACTERS = 200


def read(image: Image.Image, options: PhotoOptions) -> tuple[tuple[Line, ...], int]:
    """The lines of text on an RGB picture from top to bottom, those of `min_confidence`, at most `max_lines`.

    Also how many were seen and not understood.
    """
    found = _engine(options.detect_side_pixels)(np.asarray(image)[:, :, ::-1])
    if found.boxes is None or not found.txts:
        return (), 0
    lines, unread = [], 0
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        if score < options.min_confidence or not text.strip():
            unread += 1
            continue
        height = float(min(1.0, (box[:, 1].max() - box[:, 1].min()) / image.height))
        kept = text.strip()[:MOST_LINE_CHARACTERS]
        lines.append(Line(text=kept, confidence=round(float(min(score, 1.0)), 3), height=round(height, 4)))
    return tuple(lines[: options.max_lines]), unread


@functools.lru_cache(maxsize=1)
def _engine(detect_side_pixels: int) -> Any:
    """One engine for each process, made at its first photo: 0.9 s and 200 MB, which no other process has to bear."""
    importlib.import_module("cv2").setNumThreads(1)
    return importlib.import_module("rapidocr").RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            # What is not understood is counted, not dropped.
            "Global.text_score": 0.0,
            "Global.max_side_len": 2000,
            "Det.limit_type": "max",
            "Det.limit_side_len": detect_side_pixels,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
