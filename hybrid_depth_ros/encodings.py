"""What the bytes of images in ROS messages mean; needs no ROS itself.

A message here is anything with the fields of sensor_msgs/Image or CompressedImage: rclpy's own,
or one that rosbags read from a recording. Encodings are named in sensor_msgs/image_encodings.hpp;
colour is converted by cv_bridge's rules, depth images follow REP 118.
"""

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
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    'nv12': (1, cv2.COLOR_YUV2RGB_NV12),
    'nv21': (1, cv2.COLOR_YUV2RGB_NV21),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
}
NV = ('nv12', 'nv21')
_YUV = ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', *NV)

DEPTH_TYPES = {'32FC1': 'f4', '16UC1': 'u2'}


def image_pixels(message):
    """The pixels of a colour sensor_msgs/Image as they lie in its data, checked: a view.

    Raises ValueError where the encoding is not known, the size is 0 or does not go with the
    encoding, or the data do not fill the rows.
    """
    encoding, width, height = message.encoding, message.width, message.height
    if encoding not in TO_RGB:
        raise ValueError(f'encoding {encoding!r} is not a colour image this package reads: '
                         f'publish one of {", ".join(TO_RGB)}')
    if encoding in _YUV and width % 2:
        raise ValueError(f'{_named(message)}: pairs of pixels share their colour, so the width '
                         'must be even')
    if encoding in NV and height % 2:
        raise ValueError(f'{_named(message)}: pairs of rows share their colour, so the height '
                         'must be even')
    if encoding.startswith('bayer') and 0 < min(width, height) < 3:
        raise ValueError(f'{_named(message)}: a Bayer mosaic needs at least 3×3 pixels')
    pixel_bytes, _ = TO_RGB[encoding]
    if encoding == 'mono16':
        return _rows(message, 'u2', 1)
    if encoding in NV:
        return _rows(message, 'u1', 1, height * 3 // 2)
    return _rows(message, 'u1', pixel_bytes)


def pixels_to_rgb(pixels, encoding):
    """What :func:`image_pixels` gave → uint8 H×W×3 RGB, C-contiguous.

    mono16 is scaled by 255/65535, YUV is BT.601 as in OpenCV, nv12 and nv21 carry height/2
    rows of colour after the picture's own. Unpadded rgb8 is not copied.
    """
    _, code = TO_RGB[encoding]
    if encoding == 'mono16':
        pixels = _to_8_bit(np.ascontiguousarray(pixels, np.uint16))
    return np.ascontiguousarray(pixels) if code is None else cv2.cvtColor(pixels, code)


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


def compressed_to_rgb(message):
    """sensor_msgs/CompressedImage (JPEG, PNG, …) → uint8 H×W×3 RGB, C-contiguous.

    16-bit pictures are scaled as mono16 is, alpha is dropped. An EXIF orientation is ignored:
    calibration is per pixel of the sensor. Raises ValueError where the data are empty,
    truncated or no picture of 8 or 16 bits.
    """
    data = bytes(message.data)
    if not data:
        raise ValueError(f'compressed image (format {message.format!r}) is empty')
    # Some OpenCV versions fill the rest of a cut JPEG with grey: see that its scan has an end.
    whole = data[:2] != b'\xff\xd8' or data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if whole else None
    except cv2.error:  # a picture too large, for one
        bgr = None
    if bgr is None:
        raise ValueError(f'compressed image (format {message.format!r}, {len(data)} bytes) is '
                         'damaged, truncated or of a kind OpenCV does not read: publish JPEG '
                         'or PNG')
    if bgr.dtype == np.uint16:
        bgr = _to_8_bit(bgr)
    if bgr.dtype != np.uint8:
        raise ValueError(f'compressed image (format {message.format!r}) holds {bgr.dtype} '
                         'values: publish 8 or 16 bits per channel')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def image_to_depth(message):
    """sensor_msgs/Image of depth (REP 118: 32FC1 metres, 16UC1 millimetres) → float32 H×W.

    Metres; NaN where the message has 0, a negative or a value that is not finite.
    Raises ValueError for another encoding, no pixels, or data that do not fill the rows.
    """
    if message.encoding not in DEPTH_TYPES:
        raise ValueError(f'encoding {message.encoding!r} is not a depth image: publish 32FC1 '
                         '(metres) or 16UC1 (millimetres)')
    depth = _rows(message, DEPTH_TYPES[message.encoding], 1).astype(np.float32)
    if message.encoding == '16UC1':
        depth /= 1000
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth
