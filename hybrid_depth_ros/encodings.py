"""What the bytes of images in ROS messages mean; needs no ROS itself.

A message here is anything with the fields of sensor_msgs/Image or CompressedImage: rclpy's own, or
one that rosbags read from a recording. Encodings are named in
sensor_msgs/image_encodings.hpp; colour is converted by cv_bridge's rules, depth images follow
REP 118.
"""

import struct
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

# Encoding → bytes per pixel in a row, OpenCV's conversion to RGB. OpenCV names a Bayer pattern
# by the second row's second and third pixel, ROS by the first row's first two.
RGB_CONVERSIONS: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    'mono16': (2, cv2.COLOR_GRAY2RGB),
    'rgb16': (6, None),
    'bgr16': (6, cv2.COLOR_BGR2RGB),
    'rgba16': (8, cv2.COLOR_RGBA2RGB),
    'bgra16': (8, cv2.COLOR_BGRA2RGB),
    '8UC1': (1, cv2.COLOR_GRAY2RGB),  # without a name for their colours: as OpenCV has them
    '8UC3': (3, cv2.COLOR_BGR2RGB),
    '8UC4': (4, cv2.COLOR_BGRA2RGB),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    'nv12': (1, cv2.COLOR_YUV2RGB_NV12),
    'nv21': (1, cv2.COLOR_YUV2RGB_NV21),
    'nv24': (1, None),  # OpenCV has none: see NV24_TO_RGB
    **{f'bayer_{pattern}{bits}': (bits // 8, code) for bits in (8, 16) for pattern, code in (
        ('rggb', cv2.COLOR_BayerBG2RGB), ('bggr', cv2.COLOR_BayerRG2RGB),
        ('gbrg', cv2.COLOR_BayerGR2RGB), ('grbg', cv2.COLOR_BayerGB2RGB))},
}
# colour comes after the image's own rows: all rows per row of the image
NV_ROWS = {'nv12': 1.5, 'nv21': 1.5, 'nv24': 3}
_YUV = ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', *NV_ROWS)
# Y, U, V, 1 → R, G, B: BT.601 of limited range, with OpenCV's numbers
NV24_TO_RGB = np.array([[1.164, 0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0]])
NV24_TO_RGB = np.column_stack([NV24_TO_RGB, -NV24_TO_RGB @ (16, 128, 128)])

DEPTH_TYPES = {'32FC1': 'f4', '16UC1': 'u2'}  # REP 118; what this package publishes
# what is read beside them: OpenCV's names, metres in floats and millimetres in whole numbers too
READ_DEPTH_TYPES = {**DEPTH_TYPES, '64FC1': 'f8', '32SC1': 'i4'}
PNG = b'\x89PNG\r\n\x1a\n'
MAX_PIXELS = 2**25  # of a compressed image: 8K, 100 MB decoded
MAX_MILLIMETRES = 65534  # of 16UC1: readers take 65535 for unknown


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that count here."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that count here."""

    format: str
    data: Any


def image_pixels(message: ImageMessage) -> npt.NDArray[Any]:
    """The pixels of a colour sensor_msgs/Image as they lie in its data, checked: a view.

    Of a padded nv24 image a copy, without its padding.

    Raises:
        ValueError: The encoding is not known, the size is 0 or does not go with the encoding, or
            the data do not fill the rows.
    """
    encoding, width, height = message.encoding, message.width, message.height
    if encoding not in RGB_CONVERSIONS:
        raise ValueError(f'encoding {encoding!r} is not a colour image this package reads: '
                         f'publish one of {", ".join(RGB_CONVERSIONS)}')
    if encoding in _YUV and encoding != 'nv24' and width % 2:
        raise ValueError(f'{_description(message)}: pairs of pixels share their colour, so the '
                         'width must be even')
    if NV_ROWS.get(encoding) == 1.5 and height % 2:
        raise ValueError(f'{_description(message)}: pairs of rows share their colour, so the '
                         'height must be even')
    if encoding.startswith('bayer') and 0 < min(width, height) < 3:
        raise ValueError(f'{_description(message)}: a Bayer mosaic needs at least 3×3 pixels')
    pixel_bytes, _ = RGB_CONVERSIONS[encoding]
    if encoding.endswith('16'):
        return _pixel_view(message, 'u2', pixel_bytes // 2)
    if encoding in NV_ROWS:
        rows = _pixel_view(message, 'u1', 1, int(height * NV_ROWS[encoding]))
        return _nv24_unpadded(rows, message) if encoding == 'nv24' else rows
    return _pixel_view(message, 'u1', pixel_bytes)


def pixels_to_rgb(pixels: npt.NDArray[Any], encoding: str) -> npt.NDArray[np.uint8]:
    """What :func:`image_pixels` gave → uint8 H×W×3 RGB, C-contiguous.

    16-bit values are scaled by 255/65535, YUV is BT.601 as in OpenCV, nv12 and nv21 carry height/2
    rows of colour after the image's own, nv24 twice its height. Unpadded rgb8 is not copied.
    """
    _, code = RGB_CONVERSIONS[encoding]
    if encoding == 'nv24':
        return _nv24_to_rgb(pixels)
    if encoding.endswith('16'):
        pixels = _to_8_bit(np.ascontiguousarray(pixels, np.uint16))
    if code is not None:
        pixels = cv2.cvtColor(pixels, code)
    return np.ascontiguousarray(pixels, np.uint8)


def _nv24_unpadded(rows: npt.NDArray[np.uint8],
                   message: ImageMessage) -> npt.NDArray[np.uint8]:
    """Rows of an nv24 image: a row of its colour is two of them, with both paddings behind it."""
    step, width = rows.strides[0], message.width
    if step == width:
        return rows
    colour: npt.NDArray[np.uint8] = np.ndarray(
        (message.height, 2 * width), np.uint8, message.data, message.height * step, (2 * step, 1))
    return np.concatenate([rows[:message.height], colour.reshape(-1, width)])


def _nv24_to_rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 3H×W: H rows of Y, then for each of them U and V of its pixels in turn, in two rows."""
    height, width = len(pixels) // 3, pixels.shape[1]
    colour = pixels[height:].reshape(height, width, 2)
    return cv2.transform(np.dstack([pixels[:height], colour]), NV24_TO_RGB).astype(
        np.uint8, copy=False)


def _to_8_bit(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    # round(value × 255 / 65535): cv_bridge's rule
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535).astype(np.uint8, copy=False)


def _description(message: ImageMessage) -> str:
    return f'{message.encoding} image of {message.width}×{message.height}'


def _pixel_view(message: ImageMessage, kind: str, channels: int,
                rows: int | None = None) -> npt.NDArray[Any]:
    """A view of message.data, rows × width or rows × width × channels; kind: f4, u1 or u2."""
    dtype = np.dtype(('>' if message.is_bigendian else '<') + kind)
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    rows = rows or height
    if not width or not height:
        raise ValueError(f'{_description(message)} has no pixels: set width and height')
    pixel = dtype.itemsize * channels
    step = step or width * pixel  # 0: not told, and rows without padding
    if rows > height and step > width and size == width * rows:
        step = width  # some drivers count both planes in an nv12 image's step
    if step < width * pixel:
        raise ValueError(f'{_description(message)}: step is {step} bytes, a row needs '
                         f'{width * pixel}: set step to the bytes from row to row')
    if size < step * rows:
        raise ValueError(f'{_description(message)} is truncated: data holds {size} bytes, '
                         f'{rows} rows of {step} bytes need {step * rows}')
    shape: tuple[int, ...] = (rows, width)
    strides: tuple[int, ...] = (step, pixel)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, message.data, 0, strides)


def _size_in_header(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG or JPEG, without unpacking it; else None."""
    if data.startswith(PNG) and data[12:16] == b'IHDR' and len(data) >= 24:
        width, height = struct.unpack_from('>II', data, 16)
        return width, height
    place = 2
    while data.startswith(b'\xff\xd8') and place + 9 <= len(data) and data[place] == 0xff:
        kind, length = struct.unpack_from('>BH', data, place + 1)
        if kind == 0xff:  # fill
            place += 1
        elif 0xc0 <= kind <= 0xcf and kind not in (0xc4, 0xc8, 0xcc):  # a frame header
            height, width = struct.unpack_from('>HH', data, place + 5)
            return width, height
        elif kind < 0xc0 or 0xd0 <= kind <= 0xda:  # no segment, or pixels without a header
            return None
        else:
            place += 2 + length
    return None


def decode_image(data: bytes, flags: int, what: str) -> npt.NDArray[Any]:
    """A PNG or JPEG → OpenCV's array.

    The size in its header is checked first: 40 KB of PNG can decode to gigabytes.

    Raises:
        ValueError: It is another format, too large or damaged; `what` begins the sentence.
    """
    size = _size_in_header(data)
    if size and size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f'{what} is {size[0]}×{size[1]}, more than {MAX_PIXELS} pixels: '
                         'publish it smaller')
    # OpenCV fills with grey or black what a cut image lacks: see that it has an end.
    whole = size and (b'IEND' in data if data.startswith(PNG) else
                      data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda'))
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if whole else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError(f'{what} is damaged, truncated or of a kind this package does not '
                         'read: publish JPEG or PNG')
    return pixels


def compressed_to_rgb(message: CompressedImageMessage) -> npt.NDArray[np.uint8]:
    """sensor_msgs/CompressedImage (JPEG or PNG) → uint8 H×W×3 RGB, C-contiguous.

    16-bit images are scaled as mono16 is, alpha is dropped. An EXIF orientation is ignored:
    calibration is per pixel of the sensor.

    Raises:
        ValueError: The data are empty, truncated, neither PNG nor JPEG, or of more than
            ``MAX_PIXELS``.
    """
    data = bytes(message.data)
    if not data:
        raise ValueError(f'compressed image (format {message.format!r}) is empty')
    bgr = decode_image(
        data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION,
        f'compressed image (format {message.format!r}, {len(data)} bytes)')
    if bgr.dtype == np.uint16:
        bgr = _to_8_bit(bgr)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


class DecodedDepth(NamedTuple):
    """A depth image as its message holds it.

    Attributes:
        depth: float32 H×W, metres, NaN where unknown.
        has_maximum: Whether a whole number is the largest that its type holds (65535 in 16UC1):
            many cameras write it where they measured nothing, so it counts as unknown.
    """

    depth: npt.NDArray[np.float32]
    has_maximum: bool


def decode_depth_image(message: ImageMessage) -> DecodedDepth:
    """:func:`image_to_depth`, and whether something was taken for unknown."""
    encoding = '16UC1' if message.encoding == 'mono16' else message.encoding
    if encoding not in READ_DEPTH_TYPES:
        raise ValueError(f'encoding {message.encoding!r} is not a depth image: publish 32FC1 '
                         '(metres) or 16UC1 (millimetres)')
    return to_metres(_pixel_view(message, READ_DEPTH_TYPES[encoding], 1))


def image_to_depth(message: ImageMessage) -> npt.NDArray[np.float32]:
    """sensor_msgs/Image of depth (REP 118: 32FC1 metres, 16UC1 millimetres) → float32 H×W.

    Metres; NaN where the message has 0, a negative, a value that is not finite, or the largest
    whole number of its type. mono16 on a depth topic is 16UC1. 64FC1 and 32SC1 are read too.

    Raises:
        ValueError: The encoding is another, there are no pixels, or the data do not fill the rows.
    """
    return decode_depth_image(message).depth


def to_metres(values: npt.NDArray[Any]) -> DecodedDepth:
    """Metres in floats or millimetres in whole numbers → metres, NaN where unknown."""
    if values.dtype.kind == 'f':
        return DecodedDepth(unknown_as_nan(values.astype(np.float32)), False)
    largest = values == np.iinfo(values.dtype).max
    depth = unknown_as_nan(values.astype(np.float32) / np.float32(1000))
    depth[largest] = np.nan
    return DecodedDepth(depth, bool(largest.any()))


def depth_to_millimetres(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Depth in metres → millimetres (REP 118's 16UC1), rounded, 0 where unknown.

    What is not within 1…65534 mm counts as unknown.
    """
    with np.errstate(invalid='ignore', over='ignore'):
        millimetres = np.multiply(depth, 1000, dtype=np.float32)
        np.rint(millimetres, out=millimetres)
    millimetres[~((millimetres >= 1) & (millimetres <= MAX_MILLIMETRES))] = 0
    return millimetres.astype(np.uint16)


def unknown_as_nan(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def encoding_of(message: ImageMessage | CompressedImageMessage) -> str:
    """The encoding of the pixels of an Image or CompressedImage."""
    encoding: str = getattr(message, 'encoding', '')
    return encoding or getattr(message, 'format', '').partition(';')[0].strip()


def is_depth(message: ImageMessage | CompressedImageMessage) -> bool:
    """Whether the encoding of an Image or CompressedImage is one of depth."""
    return (encoding_of(message) in READ_DEPTH_TYPES
            or 'compressedDepth' in getattr(message, 'format', ''))
