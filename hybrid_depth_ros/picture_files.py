"""Picture files → pixels, whole or refused."""

import contextlib
from pathlib import Path

import cv2
import numpy as np

STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # colour, not turned as EXIF asks for


def read_pixels(path, flags=cv2.IMREAD_COLOR):
    """A picture file of any kind that OpenCV reads → its array; flags: cv2.IMREAD_….

    Its bytes are read here: OpenCV's own reading crashes where the name is not UTF-8. Raises
    OSError where the pixels are not all there.
    """
    data = Path(path).read_bytes()
    if not _cut_short(data):
        with contextlib.suppress(cv2.error):  # more pixels than OpenCV takes
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return pixels
    raise OSError(f'{path} is not a readable image; remove it or copy it again')


def _cut_short(data):
    """Whether the end of a JPEG or PNG file is not there, which OpenCV 4 shows as grey."""
    if data.startswith(b'\xff\xd8'):
        return b'\xff\xd9' not in data[data.rfind(b'\xff\xda'):]
    return not data or (data.startswith(b'\x89PNG') and b'IEND' not in data[-64:])
