"""Where ROS messages become arrays and arrays become messages.

Images are sensor_msgs/Image, depth images follow REP 118, calibration is sensor_msgs/CameraInfo,
clouds are sensor_msgs/PointCloud2. Colour is converted by :mod:`hybrid_depth_ros.encodings`, not by
cv_bridge: it covers more encodings, and reads padded and big-endian rows on NumPy 2 too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from hybrid_depth_ros.encodings import (
    DEPTH_TYPES,
    depth_to_millimetres,
    image_pixels,
    pixels_to_rgb,
)
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import CONFIDENT_POINT, POINT


def image_to_rgb(message: Image) -> npt.NDArray[np.uint8]:
    """Convert a sensor_msgs/Image to RGB.

    Args:
        message: A colour image in one of the encodings of ``encodings.RGB_CONVERSIONS``.

    Returns:
        uint8 H×W×3, C-contiguous. Unpadded rgb8 is not copied: the array is a view of
        ``message.data``, so don't write to it.

    Raises:
        ValueError: As :func:`hybrid_depth_ros.encodings.image_pixels`.
    """
    return pixels_to_rgb(image_pixels(message), message.encoding)


def _fill(message: Any, array: npt.NDArray[Any]) -> None:
    # into the array.array that is there: one copy, where setting .data makes a second one
    message.data.frombytes(np.ascontiguousarray(array).data.cast('B'))


def rgb_to_image(rgb: npt.NDArray[np.uint8], header: Header) -> Image:
    """Convert RGB to a sensor_msgs/Image of encoding rgb8.

    Args:
        rgb: uint8 H×W×3.
        header: The message's header.

    Raises:
        ValueError: For another array.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ValueError(f'a colour image is uint8 H×W×3, not {rgb.dtype} {rgb.shape}')
    height, width, _ = rgb.shape
    message = Image(header=header, width=width, height=height, encoding='rgb8', step=3 * width)
    _fill(message, rgb)
    return message


def mono_to_image(pixels: npt.NDArray[np.uint8], header: Header) -> Image:
    """Convert uint8 H×W to a sensor_msgs/Image of encoding mono8."""
    height, width = pixels.shape
    message = Image(header=header, width=width, height=height, encoding='mono8', step=width)
    _fill(message, pixels)
    return message


def depth_to_image(depth: npt.NDArray[Any], header: Header, encoding: str) -> Image:
    """Convert depth to a little-endian sensor_msgs/Image.

    Args:
        depth: float H×W, metres, NaN where unknown; of 16UC1 also uint16 H×W, what
            :func:`hybrid_depth_ros.encodings.depth_to_millimetres` made of them.
        header: The message's header.
        encoding: ``32FC1``, metres in float32; or ``16UC1``, millimetres, rounded, 0 where unknown
            or not within 1…65534.

    Raises:
        ValueError: For another encoding, or an array that is not H×W.

    Source: REP 118.
    """
    if encoding not in DEPTH_TYPES:
        raise ValueError(f'depth encoding {encoding!r} is not known: use 32FC1 or 16UC1')
    if depth.ndim != 2 or not depth.size:
        raise ValueError(f'a depth image is H×W, not {depth.shape}')
    values: npt.NDArray[Any] = depth
    if encoding == '16UC1' and depth.dtype != np.uint16:
        values = depth_to_millimetres(depth)
    height, width = depth.shape
    pixels = values.astype('<' + DEPTH_TYPES[encoding], copy=False)
    message = Image(header=header, width=width, height=height, encoding=encoding,
                    step=width * pixels.itemsize)
    _fill(message, pixels)
    return message


def compressed_message(header: Header, form: str, data: bytes) -> CompressedImage:
    """Build a sensor_msgs/CompressedImage.

    Args:
        header: The message's header.
        form: Its format.
        data: Of the compressed image.
    """
    message = CompressedImage(header=header, format=form)
    message.data.frombytes(data)
    return message


def camera_info_message(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """Build the sensor_msgs/CameraInfo of an undistorted image.

    Args:
        intrinsics: Of that image.
        header: The message's header.
    """
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    return CameraInfo(
        header=header, width=intrinsics.width, height=intrinsics.height,
        distortion_model='plumb_bob', d=[0.0] * 5,
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]), r=np.eye(3).ravel(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]))


def cloud_message(cloud: npt.NDArray[np.void], header: Header) -> PointCloud2:
    """Convert organised points to a sensor_msgs/PointCloud2 of x, y, z, rgb and maybe intensity.

    The fields are FLOAT32, 4 bytes each; rgb holds 0x00RRGGBB in a float's bits, as PCL and RViz
    read it. The message keeps H and W, and is never marked dense: any point may be NaN.

    Args:
        cloud: Structured H×W of dtype ``point_cloud.POINT`` or ``CONFIDENT_POINT``, or one row of
            points, in the header's frame, metres.
        header: The message's header.

    Raises:
        ValueError: For another dtype or shape.
    """
    if cloud.dtype not in (POINT, CONFIDENT_POINT) or cloud.ndim != 2 or not cloud.shape[0]:
        raise ValueError(f'an organised cloud is H×W of x, y, z, rgb, not {cloud.shape} of '
                         f'{cloud.dtype}')
    height, width = cloud.shape
    fields = [PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
              for place, name in enumerate(cloud.dtype.names or ())]
    message = PointCloud2(header=header, fields=fields, height=height, width=width,
                          point_step=cloud.itemsize, row_step=cloud.itemsize * width,
                          is_bigendian=False, is_dense=False)
    if cloud.size:
        _fill(message, cloud)
    return message
