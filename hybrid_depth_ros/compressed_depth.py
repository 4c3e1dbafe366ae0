"""Depth images as compressed_depth_image_transport publishes them: 16 bits, in a PNG or by RVL.

The topic is ``IMAGE/compressedDepth``, a sensor_msgs/CompressedImage. Its format is
``16UC1; compressedDepth png``: the encoding of the image, and how it is compressed. Its data begin
with a ConfigHeader of 12 bytes: int32 0 and two float32, a and b. What follows are millimetres of
16UC1, and of 32FC1 inverse depth v with depth = a / (v − b). 0 is unknown.
"""

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.encodings import (
    DEPTH_TYPES,
    MAX_PIXELS,
    PNG,
    CompressedImageMessage,
    DecodedDepth,
    decode_image,
    depth_to_millimetres,
    to_metres,
    unknown_as_nan,
)

FORMATS = ('png', 'rvl')
LARGEST = 65535  # number of 16 bits


def encode_compressed_depth(depth: npt.NDArray[Any], encoding: str, form: str = 'png',
                            depth_max: float = 100.0, depth_quantization: float = 100.0
                            ) -> tuple[str, bytes]:
    """Depth → format and data of a sensor_msgs/CompressedImage.

    Args:
        depth: float H×W, metres, NaN where unknown; of 16UC1 also uint16 H×W, what
            :func:`~hybrid_depth_ros.encodings.depth_to_millimetres` made of them.
        encoding: ``32FC1`` or ``16UC1``, which the receiver decodes to.
        form: ``png`` or ``rvl``.
        depth_max: Metres; what is farther becomes unknown.
        depth_quantization: Of 32FC1, the depth in metres at which one step is a metre. Nearer, a
            step is shorter, by the square. What is too near for 16 bits (0.15 m at 100) becomes
            unknown.

    Raises:
        ValueError: For another encoding or form, or an array that is not H×W.

    Source: compressed_depth_image_transport of ros-perception/image_transport_plugins.
    """
    if encoding not in DEPTH_TYPES:
        raise ValueError(f'depth encoding {encoding!r} is not known: use 32FC1 or 16UC1')
    if form not in FORMATS:
        raise ValueError(f'compressed depth {form!r} is not known: use png or rvl')
    if depth.ndim != 2 or not depth.size:
        raise ValueError(f'a depth image is H×W, not {depth.shape}')
    a = b = 0.0
    if encoding == '16UC1':
        values = depth if depth.dtype == np.uint16 else depth_to_millimetres(depth)
        if 1000 * depth_max < LARGEST:
            values = np.where(values > 1000 * depth_max, np.uint16(0), values)
    else:
        a = depth_quantization * (depth_quantization + 1)
        b = 1 - a / depth_max
        values = _inverse_depth(depth, a, b, depth_max)
    header = struct.pack('<iff', 0, a, b)
    if form == 'rvl':
        return f'{encoding}; compressedDepth rvl', header + encode_rvl(values)
    return f'{encoding}; compressedDepth png', header + encode_png(values)


def _inverse_depth(depth: npt.NDArray[np.floating], a: float, b: float,
                   depth_max: float) -> npt.NDArray[np.uint16]:
    """a / depth + b, rounded; 0 where depth is unknown, too far or too near for 16 bits."""
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        values = np.divide(np.float32(a), depth, dtype=np.float32)
        values += np.float32(b)
    np.rint(values, out=values)
    fits = (depth <= depth_max) & (values >= 1) & (values <= LARGEST)
    values[~fits] = 0
    return values.astype(np.uint16)


def encode_png(values: npt.NDArray[np.uint16]) -> bytes:
    """uint16 H×W → a grey PNG of 16 bits.

    Each row is stored less the one above, at the lowest level of Deflate. OpenCV tries out filters,
    which takes 1.7 times as long and saves 8 %; its highest level saves 16 % and takes eighty times
    as long.

    Source: ISO/IEC 15948, chapters 5, 9 and 11.
    """
    height, width = values.shape
    rows = values.astype('>u2').view(np.uint8).reshape(height, 2 * width)
    filtered = np.empty((height, 1 + 2 * width), np.uint8)
    filtered[:, 0], filtered[0, 1:] = 2, rows[0]  # 2: the filter "up"
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks = ((b'IHDR', struct.pack('>IIBBBBB', width, height, 16, 0, 0, 0, 0)),
              (b'IDAT', zlib.compress(filtered.data, 1)), (b'IEND', b''))
    return PNG + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks)


def encode_rvl(values: npt.NDArray[np.uint16]) -> bytes:
    """uint16 H×W → RVL, as :func:`decode_rvl` reads it.

    Source: Wilson, *Fast Lossless Depth Image Compression*, 2017.
    """
    height, width = values.shape
    flat = np.ascontiguousarray(values).ravel()
    known = flat != 0
    # starts of the runs of zeros and of others in turn; a first run of zeros may be empty
    starts = np.flatnonzero(known[1:] != known[:-1]) + 1
    starts = np.concatenate([[0, 0] if known[0] else [0], starts, [flat.size]])
    lengths = np.diff(starts)
    if lengths.size % 2:  # it ends with zeros, which no others follow
        lengths = np.append(lengths, 0)
    zeros, others = lengths[0::2], lengths[1::2]
    kept = flat[known].astype(np.int32)
    changes = kept.copy()
    np.subtract(kept[1:], kept[:-1], out=changes[1:])
    numbers = changes << 1
    numbers ^= changes >> 31
    places = np.cumsum(others) - others
    numbers = np.insert(numbers, np.repeat(places, 2), np.stack([zeros, others], 1).ravel())
    return struct.pack('<II', width, height) + _pack_half_bytes(numbers)


def _pack_half_bytes(numbers: npt.NDArray[np.int32]) -> bytes:
    """Numbers of less than 30 bits → half-bytes of three bits, in words of eight."""
    # few need more than one: all but the first step is for those alone
    longer = np.flatnonzero(numbers > 7)
    first = numbers.astype(np.uint8)
    first &= 7
    first[longer] |= 8  # one more follows
    rest, counts, bits = numbers[longer] >> 3, np.ones(longer.size, np.uint8), 3
    while (more := rest >= 1 << bits).any():
        counts += more
        bits += 3
    ends = np.cumsum(counts, dtype=np.intp)
    places = longer + ends - counts + 1
    size = numbers.size + int(counts.sum(dtype=np.intp))
    halves, is_first = np.zeros(-(-size // 8) * 8, np.uint8), np.ones(size, bool)
    while places.size:
        is_first[places] = False
        halves[places] = rest.astype(np.uint8) & 7
        longer = np.flatnonzero(counts > 1)
        halves[places[longer]] |= 8
        rest, counts, places = rest[longer] >> 3, counts[longer] - 1, places[longer] + 1
    halves[np.flatnonzero(is_first)] = first
    pairs = halves.view('<u2')
    packed = (pairs << 4 | pairs >> 8).astype(np.uint8)
    return packed.view('>u4').astype('<u4').tobytes()


def compressed_to_depth(message: CompressedImageMessage) -> npt.NDArray[np.float32]:
    """sensor_msgs/CompressedImage of depth → float32 H×W, metres, NaN where unknown.

    What compressed_depth_image_transport publishes: format ``16UC1; compressedDepth png``,
    data a ConfigHeader (int32, float32 a, float32 b) and a 16-bit PNG, which holds millimetres,
    or for 32FC1 inverse depth v with depth = a / (v − b); or ``rvl``, the same values by
    :func:`decode_rvl`. A 16UC1 PNG without that header (of compressed_image_transport) is read
    too.

    Raises:
        ValueError: The data are damaged.
    """
    return decode_compressed_depth(message).depth


def decode_compressed_depth(message: CompressedImageMessage) -> DecodedDepth:
    """:func:`compressed_to_depth`, and whether something was taken for unknown."""
    encoding, _, compression = (part.strip() for part in message.format.partition(';'))
    encoding = '16UC1' if encoding == 'mono16' else encoding
    data = bytes(message.data)
    what = f'compressed depth (format {message.format!r}, {len(data)} bytes)'
    rvl = 'rvl' in compression.lower()
    start = 12 if rvl else data.find(PNG, 0, 12 + len(PNG))
    if encoding not in DEPTH_TYPES or start not in ((12,) if encoding == '32FC1' else (0, 12)):
        raise ValueError(f'{what} is not 16UC1 or 32FC1 in a PNG or RVL: publish compressedDepth '
                         'png')
    values = (decode_rvl(data[start:], what) if rvl else
              decode_image(data[start:], cv2.IMREAD_UNCHANGED, what))
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ValueError(f'{what} is not 16 bits of one channel: publish compressedDepth png')
    if encoding == '16UC1':
        return to_metres(values)
    a, b = struct.unpack_from('<ff', data, 4)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.where(values > 0, np.float32(a) / (values.astype(np.float32) - np.float32(b)),
                         np.float32(np.nan))
    return DecodedDepth(unknown_as_nan(depth), False)


def decode_rvl(data: bytes, what: str) -> npt.NDArray[np.uint16]:
    """RVL (Wilson, Fast Lossless Depth Image Compression, 2017) → uint16 H×W.

    The data are int32 columns, int32 rows, then little-endian 32-bit words of eight half-bytes, the
    highest first. A number is half-bytes of three bits, the lowest first, each but its last with
    8 added. The numbers are in turn: how many pixels are 0, how many are not, and by how much each
    of these differs from the one before (2 × for a rise, 2 × − 1 for a fall).

    Raises:
        ValueError: The numbers don't fill the image, or it has more than ``MAX_PIXELS``.
    """
    width, height = struct.unpack_from('<II', data) if len(data) >= 8 else (0, 0)
    wanted = width * height
    if wanted > MAX_PIXELS:
        raise ValueError(f'{what} is {width}×{height}, more than {MAX_PIXELS} pixels: publish it '
                         'smaller')
    words = np.frombuffer(data, '<u4', min(len(data) // 4 - 2, wanted + 8), 8) if wanted else ()
    halves = np.asarray(words, '>u4').view(np.uint8)
    halves = np.stack([halves >> 4, halves & 15], 1).ravel()
    ends = np.flatnonzero(halves < 8)
    starts = np.concatenate([[0], ends[:-1] + 1])
    runs, place, filled = [], 0, 0
    if ends.size and (ends - starts).max() <= 10:  # a number is of 32 bits
        halves = halves[:ends[-1] + 1]
        shift = 3 * (np.arange(halves.size) - np.repeat(starts, ends - starts + 1))
        numbers = np.add.reduceat((halves & 7).astype(np.int64) << shift, starts)
        listed = numbers.tolist()  # read one by one, which lists are quicker at
        while filled < wanted and place + 1 < len(listed):
            zeros, others = listed[place:place + 2]
            runs.append((zeros, others))
            place, filled = place + 2 + others, filled + zeros + others
    if not wanted or filled != wanted or place > numbers.size:
        raise ValueError(f'{what} is damaged or truncated: publish it again, or as png')
    lengths = np.array(runs)
    heads = np.cumsum(lengths[:, 1] + 2) - lengths[:, 1] - 2
    changes = np.delete(numbers[:place], np.concatenate([heads, heads + 1]))
    values = np.zeros(wanted, np.uint16)
    values[np.repeat(np.tile([False, True], len(runs)), lengths.ravel())] = np.cumsum(
        (changes >> 1) ^ -(changes & 1)).astype(np.uint16)
    return values.reshape(height, width)


