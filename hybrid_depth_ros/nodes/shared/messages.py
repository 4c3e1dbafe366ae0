"""Where ROS messages become arrays and arrays become messages.

Images are sensor_msgs/Image, depth images follow REP 118, calibration is sensor_msgs/CameraInfo,
clouds are sensor_msgs/PointCloud2. Where this machine has a cv_bridge that works and gives the
same bytes, it converts images; elsewhere :mod:`hybrid_depth_ros.encodings` does
(:func:`cv_bridge_encodings`). Clouds are filled by sensor_msgs_py where that is installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import yaml
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from hybrid_depth_ros.encodings import DEPTH_TYPES, NV, TO_RGB, image_pixels, pixels_to_rgb
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.geometry import POINT


def image_to_rgb(message):
    """sensor_msgs/Image → uint8 H×W×3 RGB, C-contiguous.

    Unpadded rgb8 is not copied: the array is then a view of ``message.data``, so don't write
    to it. Raises what :func:`image_pixels` raises.
    """
    pixels, encoding = image_pixels(message), message.encoding
    pixel_bytes, _ = TO_RGB[encoding]
    # cv_bridge (core.py) takes rows to hold whole pixels, and on NumPy 2 can't swap bytes.
    if (encoding in cv_bridge_encodings() and message.step and message.step % pixel_bytes == 0
            and not message.is_bigendian):
        return _by_cv_bridge(message)
    return pixels_to_rgb(pixels, encoding)


def _by_cv_bridge(message):
    return np.ascontiguousarray(_cv_bridge().imgmsg_to_cv2(message, 'rgb8'))


@lru_cache(maxsize=1)
def cv_bridge_encodings():
    """The encodings that cv_bridge converts here, and to the same bytes as this module.

    Empty where cv_bridge is absent or broken: a build for another NumPy may crash at import,
    so a child process tries it first, once (about a second, the first time this is called).
    rgb8 is never among them, there being nothing to convert.
    """
    try:
        if importlib.util.find_spec('cv_bridge') is None:
            return frozenset()
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        child = subprocess.run(
            [sys.executable, '-c', f'from {__name__} import _compare; _compare()'],
            env={**os.environ, 'PYTHONPATH': path}, stdin=subprocess.DEVNULL,
            capture_output=True, check=True, timeout=30)
        agreed = frozenset(json.loads(child.stdout.splitlines()[-1]))
        return agreed if agreed and _cv_bridge() else frozenset()
    except (ImportError, AttributeError, OSError, subprocess.SubprocessError, ValueError,
            IndexError):
        return frozenset()


@lru_cache(maxsize=1)
def _cv_bridge():
    from cv_bridge import CvBridge
    return CvBridge()


def _compare():
    """Print the encodings on which cv_bridge and OpenCV agree, as JSON (a child runs this)."""
    noise = np.random.default_rng(0)
    agreed = []
    for encoding, (pixel_bytes, code) in TO_RGB.items():
        if code is None or encoding in NV:
            continue
        message = Image(width=64, height=48, encoding=encoding, step=64 * pixel_bytes)
        _fill(message, noise.integers(0, 256, (48, message.step), np.uint8))
        ours = pixels_to_rgb(image_pixels(message), encoding)
        try:
            theirs = _by_cv_bridge(message)
        except Exception:  # its errors are its own; a newer encoding is one cause
            continue
        if theirs.dtype == ours.dtype and np.array_equal(theirs, ours):
            agreed.append(encoding)
    print(f'\n{json.dumps(agreed)}', flush=True)


def _fill(message, array):
    # into the array.array that is there: one copy, where setting .data makes a second one
    message.data.frombytes(memoryview(np.ascontiguousarray(array)).cast('B'))


def rgb_to_image(rgb, header):
    """uint8 H×W×3 RGB → sensor_msgs/Image, rgb8. Raises ValueError for another array."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ValueError(f'a colour image is uint8 H×W×3, not {rgb.dtype} {rgb.shape}')
    height, width, _ = rgb.shape
    message = Image(header=header, width=width, height=height, encoding='rgb8', step=3 * width)
    _fill(message, rgb)
    return message


def depth_to_image(depth, header, encoding):
    """Depth → sensor_msgs/Image (REP 118), little-endian.

    depth: float H×W, metres, NaN where unknown. encoding: ``32FC1``, the same in float32, or
    ``16UC1``, millimetres, rounded, 0 where unknown or not within 1…65535.
    Raises ValueError for another encoding or an array that is not H×W.
    """
    if encoding not in DEPTH_TYPES:
        raise ValueError(f'depth encoding {encoding!r} is not known: use 32FC1 or 16UC1')
    if depth.ndim != 2 or not depth.size:
        raise ValueError(f'a depth image is H×W, not {depth.shape}')
    if encoding == '16UC1':
        millimetres = np.rint(np.multiply(depth, 1000, dtype=np.float32))
        known = (millimetres >= 1) & (millimetres <= 65535)
        depth = np.where(known, millimetres, 0)
    height, width = depth.shape
    pixels = depth.astype('<' + DEPTH_TYPES[encoding], copy=False)
    message = Image(header=header, width=width, height=height, encoding=encoding,
                    step=width * pixels.itemsize)
    _fill(message, pixels)
    return message


def camera_info_message(intrinsics, header):
    """Intrinsics → the sensor_msgs/CameraInfo of an undistorted image."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    return CameraInfo(
        header=header, width=intrinsics.width, height=intrinsics.height,
        distortion_model='plumb_bob', d=[0.0] * 5,
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]), r=np.eye(3).ravel(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]))


def calibration_file(name):
    """A path or URL as camera_info_manager takes it (``file://``, ``package://``, with
    ``${ROS_HOME}``) → a Path.

    Raises OSError where its package, or ``~``, is not known here.
    """
    if '${ROS_HOME}' in name:
        name = name.replace('${ROS_HOME}', str(expand_user(os.environ.get('ROS_HOME') or '~/.ros')))
    if '${' in name:
        raise OSError(f'{name}: only ${{ROS_HOME}} is known here; write the rest out')
    url = urlsplit(name) if '://' in name else None
    if url is None:
        return expand_user(name)
    if url.scheme == 'file':
        return Path(unquote(url.path))
    if url.scheme != 'package':
        raise OSError(f'{name} is no calibration file: use a path, file:// or package://')
    try:
        from ament_index_python.packages import get_package_share_directory
        return Path(get_package_share_directory(url.netloc)) / unquote(url.path).lstrip('/')
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise OSError(f'{name}: no package {url.netloc} is known here; source its workspace, or '
                      'use a path') from error


def _from_opencv(path, data):
    """The entries of camera_calibration's file in one that cv2.FileStorage wrote."""
    try:
        storage = cv2.FileStorage(data.decode(), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (cv2.error, UnicodeDecodeError, SystemError) as error:
        raise ValueError(f'{path} is not a whole file of OpenCV; write it again') from error

    def find(*names):
        nodes = (storage.getNode(name) for name in names)
        return next((node for node in nodes if not node.empty()), None)
    entries = {}
    for key, names in (('image_width', ('image_width', 'width')),
                       ('image_height', ('image_height', 'height'))):
        if node := find(*names):
            entries[key] = int(node.real())
    for key, names in (
            ('camera_matrix', ('camera_matrix', 'cameraMatrix', 'K')),
            ('distortion_coefficients', ('distortion_coefficients', 'distCoeffs', 'dist_coeffs',
                                         'D')),
            ('rectification_matrix', ('rectification_matrix', 'R')),
            ('projection_matrix', ('projection_matrix', 'P'))):
        node = find(*names)
        matrix = node.mat() if node and node.isMap() else None
        if matrix is not None:
            entries[key] = {'data': matrix.ravel().tolist()}
    entries.setdefault('rectification_matrix', {'data': np.eye(3).ravel().tolist()})
    fisheye = find('fisheye_model')
    many = len(entries.get('distortion_coefficients', {'data': ()})['data']) > 5
    entries['distortion_model'] = ('equidistant' if fisheye and fisheye.real() else
                                   'rational_polynomial' if many else 'plumb_bob')
    if 'camera_matrix' in entries and 'projection_matrix' not in entries:
        rows = np.reshape(entries['camera_matrix']['data'], (-1, 3))
        entries['projection_matrix'] = {'data': np.pad(rows, ((0, 0), (0, 1))).ravel().tolist()}
    return entries


def camera_info_from_yaml(path):
    """A calibration file → sensor_msgs/CameraInfo, no header.

    As camera_calibration writes it, or cv2.FileStorage (OpenCV's own calibration); path: a URL
    too, see :func:`calibration_file`. Raises OSError where the file can't be read, ValueError
    naming the file and the key that is missing or wrong.
    """
    data = calibration_file(str(path)).read_bytes()
    try:
        entries = (_from_opencv(path, data) if b'opencv-matrix' in data else
                   yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not YAML: {" ".join(str(error).split())}') from error
    if not isinstance(entries, dict):
        raise ValueError(f'{path} is not a camera calibration: it holds no keys; name the '
                         'YAML file that camera_calibration wrote')

    def wrong(key, wanted):
        state = 'is wrong' if key in entries else 'is missing'
        return ValueError(f'{path}: {key} {state}: it must be {wanted}')

    def pixels(key):
        value = entries.get(key)
        if type(value) is not int or not 0 < value < 2**32:
            raise wrong(key, 'a whole number above 0')
        return value

    def matrix(key, length=None):
        wanted = f'a matrix with {length or "any number of"} numbers under data'
        try:
            data = np.array([float(number) for number in entries[key]['data']])
        except (KeyError, TypeError, ValueError):
            raise wrong(key, wanted) from None
        if length not in (None, len(data)) or not np.isfinite(data).all():
            raise wrong(key, wanted)
        return data

    model = entries.get('distortion_model', 'plumb_bob')
    if not isinstance(model, str):
        raise wrong('distortion_model', 'a name')
    camera = matrix('camera_matrix', 9)
    if not (camera[0] > 0 and camera[4] > 0):
        raise ValueError(f'{path}: camera_matrix has a focal length of {camera[0]:g} and '
                         f'{camera[4]:g}: the camera was not calibrated; calibrate it, or leave '
                         'the file out and set horizontal_fov')
    return CameraInfo(
        width=pixels('image_width'), height=pixels('image_height'), distortion_model=model,
        d=matrix('distortion_coefficients').tolist(), k=camera,
        r=matrix('rectification_matrix', 9), p=matrix('projection_matrix', 12))


@lru_cache(maxsize=1)
def _create_cloud():
    try:
        from sensor_msgs_py.point_cloud2 import create_cloud
    except ImportError:
        return None
    return create_cloud


def cloud_message(cloud, header):
    """Organised points → sensor_msgs/PointCloud2: x, y, z and rgb, all FLOAT32, 16 bytes each.

    cloud: structured H×W of dtype ``geometry.POINT``, or one row of points, in the header's
    frame, metres. The message keeps H and W, and is never marked dense: any point may be NaN.
    rgb holds 0x00RRGGBB in a float's bits, as PCL and RViz read it.
    Raises ValueError for another dtype or shape.
    """
    if cloud.dtype != POINT or cloud.ndim != 2 or not cloud.shape[0]:
        raise ValueError(f'an organised cloud is H×W of x, y, z, rgb, not {cloud.shape} of '
                         f'{cloud.dtype}')
    height, width = cloud.shape
    fields = [PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
              for place, name in enumerate(POINT.names)]
    if create_cloud := _create_cloud():
        # It takes shape[0] for the width, so it gets the points in one line.
        points = np.ascontiguousarray(cloud).reshape(-1).view([(n, '<f4') for n in POINT.names])
        message = create_cloud(header, fields, points)
    else:
        message = PointCloud2(header=header, fields=fields, point_step=POINT.itemsize)
        if cloud.size:
            _fill(message, cloud)
    message.height, message.width, message.row_step = height, width, POINT.itemsize * width
    message.is_bigendian = message.is_dense = False
    return message
