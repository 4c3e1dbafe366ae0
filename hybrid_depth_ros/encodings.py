"""What the bytes of images and clouds in ROS messages mean; needs no ROS itself.

A message here is anything with the fields of sensor_msgs/Image, CompressedImage or PointCloud2:
rclpy's own, or one that rosbags read from a recording. Encodings are named in
sensor_msgs/image_encodings.hpp; colour is converted by cv_bridge's rules, depth images follow
REP 118.
"""

import struct

import cv2
import numpy as np

# Encoding → bytes per pixel in a row, OpenCV's conversion to RGB. OpenCV names a Bayer pattern
# by the second row's second and third pixel, ROS by the first row's first two.
TO_RGB = {
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
NV = {'nv12': 1.5, 'nv21': 1.5, 'nv24': 3}  # colour behind the picture: rows in all per row of it
_YUV = ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', *NV)
# Y, U, V, 1 → R, G, B: BT.601 of limited range, with OpenCV's numbers
NV24_TO_RGB = np.array([[1.164, 0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0]])
NV24_TO_RGB = np.column_stack([NV24_TO_RGB, -NV24_TO_RGB @ (16, 128, 128)])

DEPTH_TYPES = {'32FC1': 'f4', '16UC1': 'u2'}
PNG = b'\x89PNG\r\n\x1a\n'
# sensor_msgs/PointField: its datatypes
FIELD_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}
MOST_PIXELS = 2**25  # of a compressed picture: 8K, 100 MB unpacked


def image_pixels(message):
    """The pixels of a colour sensor_msgs/Image as they lie in its data, checked: a view.

    Of a padded nv24 image a copy, without what pads it.

    Raises ValueError where the encoding is not known, the size is 0 or does not go with the
    encoding, or the data do not fill the rows.
    """
    encoding, width, height = message.encoding, message.width, message.height
    if encoding not in TO_RGB:
        raise ValueError(f'encoding {encoding!r} is not a colour image this package reads: '
                         f'publish one of {", ".join(TO_RGB)}')
    if encoding in _YUV and encoding != 'nv24' and width % 2:
        raise ValueError(f'{_named(message)}: pairs of pixels share their colour, so the width '
                         'must be even')
    if NV.get(encoding) == 1.5 and height % 2:
        raise ValueError(f'{_named(message)}: pairs of rows share their colour, so the height '
                         'must be even')
    if encoding.startswith('bayer') and 0 < min(width, height) < 3:
        raise ValueError(f'{_named(message)}: a Bayer mosaic needs at least 3×3 pixels')
    pixel_bytes, _ = TO_RGB[encoding]
    if encoding.endswith('16'):
        return _rows(message, 'u2', pixel_bytes // 2)
    if encoding in NV:
        rows = _rows(message, 'u1', 1, int(height * NV[encoding]))
        return _nv24_unpadded(rows, message) if encoding == 'nv24' else rows
    return _rows(message, 'u1', pixel_bytes)


def pixels_to_rgb(pixels, encoding):
    """What :func:`image_pixels` gave → uint8 H×W×3 RGB, C-contiguous.

    16-bit values are scaled by 255/65535, YUV is BT.601 as in OpenCV, nv12 and nv21 carry height/2
    rows of colour after the picture's own, nv24 twice its height. Unpadded rgb8 is not copied.
    """
    _, code = TO_RGB[encoding]
    if encoding == 'nv24':
        return _nv24_to_rgb(pixels)
    if encoding.endswith('16'):
        pixels = _to_8_bit(np.ascontiguousarray(pixels, np.uint16))
    return np.ascontiguousarray(pixels) if code is None else cv2.cvtColor(pixels, code)


def _nv24_unpadded(rows, message):
    """Rows of an nv24 image: a row of its colour is two of them, with both paddings behind it."""
    step, width = rows.strides[0], message.width
    if step == width:
        return rows
    colour = np.ndarray((message.height, 2 * width), np.uint8, message.data,
                        message.height * step, (2 * step, 1))
    return np.concatenate([rows[:message.height], colour.reshape(-1, width)])


def _nv24_to_rgb(pixels):
    """uint8 3H×W: H rows of Y, then for each of them U and V of its pixels in turn, in two rows."""
    height, width = len(pixels) // 3, pixels.shape[1]
    colour = pixels[height:].reshape(height, width, 2)
    return cv2.transform(np.dstack([pixels[:height], colour]), NV24_TO_RGB)


def _to_8_bit(pixels):
    # round(value × 255 / 65535): cv_bridge's rule
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535)


def _named(message):
    return f'{message.encoding} image of {message.width}×{message.height}'


def _rows(message, kind, channels, rows=None):
    """A view of message.data, rows × width or rows × width × channels; kind: f4, u1 or u2."""
    dtype = np.dtype(('>' if message.is_bigendian else '<') + kind)
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    rows = rows or height
    if not width or not height:
        raise ValueError(f'{_named(message)} has no pixels: set width and height')
    pixel = dtype.itemsize * channels
    step = step or width * pixel  # 0: not told, and rows without padding
    if rows > height and step > width and size == width * rows:
        step = width  # some drivers count both planes in an nv12 image's step
    if step < width * pixel:
        raise ValueError(f'{_named(message)}: step is {step} bytes, a row needs '
                         f'{width * pixel}: set step to the bytes from row to row')
    if size < step * rows:
        raise ValueError(f'{_named(message)} is truncated: data holds {size} bytes, '
                         f'{rows} rows of {step} bytes need {step * rows}')
    shape, strides = (rows, width), (step, pixel)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, message.data, 0, strides)


def _claimed_size(data):
    """(width, height) in the header of a PNG or JPEG, without unpacking it; else None."""
    if data.startswith(PNG) and data[12:16] == b'IHDR' and len(data) >= 24:
        return struct.unpack_from('>II', data, 16)
    place = 2
    while data.startswith(b'\xff\xd8') and place + 9 <= len(data) and data[place] == 0xff:
        kind, length = struct.unpack_from('>BH', data, place + 1)
        if kind == 0xff:  # fill
            place += 1
        elif 0xc0 <= kind <= 0xcf and kind not in (0xc4, 0xc8, 0xcc):  # a frame header
            return struct.unpack_from('>HH', data, place + 5)[::-1]
        elif kind < 0xc0 or 0xd0 <= kind <= 0xda:  # no segment, or pixels without a header
            return None
        else:
            place += 2 + length
    return None


def _unpack(data, flags, what):
    """A PNG or JPEG → OpenCV's array. ValueError where it is another, too large or damaged.

    What is claimed is looked at first: 40 KB of PNG can unpack to gigabytes.
    """
    size = _claimed_size(data)
    if size and size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f'{what} is {size[0]}×{size[1]}, more than {MOST_PIXELS} pixels: '
                         'publish it smaller')
    # OpenCV fills with grey or black what a cut picture lacks: see that it has an end.
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


def compressed_to_rgb(message):
    """sensor_msgs/CompressedImage (JPEG or PNG) → uint8 H×W×3 RGB, C-contiguous.

    16-bit pictures are scaled as mono16 is, alpha is dropped. An EXIF orientation is ignored:
    calibration is per pixel of the sensor. Raises ValueError where the data are empty,
    truncated, neither PNG nor JPEG, or of more than ``MOST_PIXELS``.
    """
    data = bytes(message.data)
    if not data:
        raise ValueError(f'compressed image (format {message.format!r}) is empty')
    bgr = _unpack(
        data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION,
        f'compressed image (format {message.format!r}, {len(data)} bytes)')
    if bgr.dtype == np.uint16:
        bgr = _to_8_bit(bgr)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def image_to_depth(message):
    """sensor_msgs/Image of depth (REP 118: 32FC1 metres, 16UC1 millimetres) → float32 H×W.

    Metres; NaN where the message has 0, a negative or a value that is not finite. mono16 on a
    depth topic is 16UC1. Raises ValueError for another encoding, no pixels, or data that do not
    fill the rows.
    """
    encoding = '16UC1' if message.encoding == 'mono16' else message.encoding
    if encoding not in DEPTH_TYPES:
        raise ValueError(f'encoding {message.encoding!r} is not a depth image: publish 32FC1 '
                         '(metres) or 16UC1 (millimetres)')
    depth = _rows(message, DEPTH_TYPES[encoding], 1).astype(np.float32)
    if encoding == '16UC1':
        depth /= 1000
    return _known(depth)


def _known(depth):
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def compressed_to_depth(message):
    """sensor_msgs/CompressedImage of depth → float32 H×W, metres, NaN where unknown.

    What compressed_depth_image_transport publishes: format ``16UC1; compressedDepth png``,
    data a ConfigHeader (int32, float32 a, float32 b) and a 16-bit PNG, which holds millimetres,
    or for 32FC1 inverse depth v with depth = a / (v − b); or ``rvl``, the same values by
    :func:`_rvl`. A 16UC1 PNG without that header (of compressed_image_transport) is read too.
    Raises ValueError for damaged data.
    """
    encoding, _, compression = (part.strip() for part in message.format.partition(';'))
    encoding = '16UC1' if encoding == 'mono16' else encoding
    data = bytes(message.data)
    what = f'compressed depth (format {message.format!r}, {len(data)} bytes)'
    rvl = 'rvl' in compression.lower()
    start = 12 if rvl else data.find(PNG, 0, 12 + len(PNG))
    if encoding not in DEPTH_TYPES or start not in ((12,) if encoding == '32FC1' else (0, 12)):
        raise ValueError(f'{what} is not 16UC1 or 32FC1 in a PNG or RVL: publish compressedDepth '
                         'png')
    values = _rvl(data[start:], what) if rvl else _unpack(data[start:], cv2.IMREAD_UNCHANGED, what)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ValueError(f'{what} is not 16 bits of one channel: publish compressedDepth png')
    depth = values.astype(np.float32)
    if encoding == '16UC1':
        depth /= 1000
    else:
        a, b = struct.unpack_from('<ff', data, 4)
        with np.errstate(divide='ignore', invalid='ignore'):
            depth = np.where(values > 0, np.float32(a) / (depth - np.float32(b)),
                             np.float32(np.nan))
    return _known(depth)


def _rvl(data, what):
    """RVL (Wilson, Fast Lossless Depth Image Compression, 2017) → uint16 H×W.

    data: int32 columns, int32 rows, then little-endian 32-bit words of eight half-bytes, the
    highest first. A number is half-bytes of three bits, the lowest first, each but its last with
    8 added. They tell in turn how many pixels are 0, how many are not, and by how much each of
    these differs from the one before (2 × for a rise, 2 × − 1 for a fall). Raises ValueError where
    they don't make the picture, or it is of more than ``MOST_PIXELS``.
    """
    width, height = struct.unpack_from('<II', data) if len(data) >= 8 else (0, 0)
    wanted = width * height
    if wanted > MOST_PIXELS:
        raise ValueError(f'{what} is {width}×{height}, more than {MOST_PIXELS} pixels: publish it '
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


def cloud_array(message):
    """sensor_msgs/PointCloud2 → its points as they lie in its data, checked: a view.

    A structured array H×W of x, y, z and, where there is one, rgb as uint32 (0x00RRGGBB); empty
    where there is no point. Raises ValueError where it has no x, y and z, a field is not inside a
    point, or the data do not fill the rows.
    """
    fields = {field.name: field for field in message.fields}
    if missing := [axis for axis in 'xyz' if axis not in fields]:
        raise ValueError(f'the cloud has no field {", ".join(missing)}, only '
                         f'{", ".join(map(str, fields)) or "none"}; x, y and z are needed')
    names = [name for name in (*'xyz', 'rgb') if name in fields]
    kinds = {name: 'u4' if name == 'rgb' else FIELD_TYPES.get(fields[name].datatype, '')
             for name in names}
    height, width, step = message.height, message.width, message.point_step
    # NumPy's own check wraps around near 2³¹, and then it reads what is not the message's
    if odd := [name for name, kind in kinds.items()
               if not kind or fields[name].offset + int(kind[1]) > step]:
        raise ValueError(f'the cloud has points of {step} bytes, which end before their fields '
                         f'{", ".join(odd)}, or PointField does not know their datatypes')
    row_step, size = message.row_step or width * step, memoryview(message.data).nbytes
    if row_step < width * step or size < height * row_step:
        raise ValueError(f'the cloud is truncated: it tells of {height} rows of {width} points of '
                         f'{step} bytes in {row_step}, and holds {size} bytes')
    order = '>' if message.is_bigendian else '<'
    kind = np.dtype({'names': names, 'formats': [order + kinds[name] for name in names],
                     'offsets': [fields[name].offset for name in names], 'itemsize': step})
    if not width or not height:
        return np.empty((0, 0), kind)
    return np.ndarray((height, width), kind, message.data, 0, (row_step, step))


def encoding_of(message):
    """What an Image or CompressedImage says that its pixels are."""
    return getattr(message, 'encoding', None) or message.format.partition(';')[0].strip()


def is_depth(message):
    """Whether an Image or CompressedImage says that it holds depth."""
    return (encoding_of(message) in DEPTH_TYPES
            or 'compressedDepth' in getattr(message, 'format', ''))
