"""Calibration files as sensor_msgs/CameraInfo: of camera_calibration, or of OpenCV itself."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from sensor_msgs.msg import CameraInfo

from hybrid_depth_ros.files import expand_user


def resolve_calibration_url(name: str) -> Path:
    """Resolve the path or URL of a calibration file, as camera_info_manager does.

    Args:
        name: A path, or a URL of ``file://`` or ``package://``; ``${ROS_HOME}`` may stand in it.

    Raises:
        OSError: Where its package, or ``~``, is not known here.
    """
    if '${ROS_HOME}' in name:
        name = name.replace('${ROS_HOME}', str(expand_user(os.environ.get('ROS_HOME') or '~/.ros')))
    if '${' in name:
        raise OSError(f'{name}: only ${{ROS_HOME}} is known here; write the rest out')
    if '://' not in name:
        return expand_user(name)
    url = urlsplit(name)
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


def _read_opencv_storage(path: str | Path, data: bytes) -> dict[str, Any]:
    """The entries of camera_calibration's file in one that cv2.FileStorage wrote."""
    try:
        storage = cv2.FileStorage(data.decode(), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (cv2.error, UnicodeDecodeError, SystemError) as error:
        raise ValueError(f'{path} is not a whole file of OpenCV; write it again') from error

    def find(*names: str) -> Any:
        nodes = (storage.getNode(name) for name in names)
        return next((node for node in nodes if not node.empty()), None)
    entries: dict[str, Any] = {}
    for key, names in (('image_width', ('image_width', 'width')),
                       ('image_height', ('image_height', 'height'))):
        if node := find(*names):
            entries[key] = int(node.real())
    matrices: tuple[tuple[str, tuple[str, ...]], ...] = (
        ('camera_matrix', ('camera_matrix', 'cameraMatrix', 'K')),
        ('distortion_coefficients', ('distortion_coefficients', 'distCoeffs', 'dist_coeffs', 'D')),
        ('rectification_matrix', ('rectification_matrix', 'R')),
        ('projection_matrix', ('projection_matrix', 'P')))
    for key, aliases in matrices:
        node = find(*aliases)
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


def camera_info_from_yaml(path: str | Path) -> CameraInfo:
    """Read a calibration file.

    Args:
        path: What camera_calibration or cv2.FileStorage (OpenCV's own calibration) wrote; a URL
            too, see :func:`resolve_calibration_url`.

    Returns:
        The calibration, without a header.

    Raises:
        OSError: Where the file can't be read.
        ValueError: Naming the file and the key that is missing or wrong.
    """
    data = resolve_calibration_url(str(path)).read_bytes()
    try:
        entries = (_read_opencv_storage(path, data) if b'opencv-matrix' in data else
                   yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not YAML: {" ".join(str(error).split())}') from error
    if not isinstance(entries, dict):
        raise ValueError(f'{path} is not a camera calibration: it holds no keys; name the '
                         'YAML file that camera_calibration wrote')

    def wrong(key: str, expected: str) -> ValueError:
        state = 'is wrong' if key in entries else 'is missing'
        return ValueError(f'{path}: {key} {state}: it must be {expected}')

    def pixels(key: str) -> int:
        value = entries.get(key)
        if type(value) is not int or not 0 < value < 2**32:
            raise wrong(key, 'a whole number above 0')
        return value

    def matrix(key: str, length: int | None = None) -> npt.NDArray[np.float64]:
        expected = f'a matrix with {length or "any number of"} numbers under data'
        try:
            data = np.array([float(number) for number in entries[key]['data']])
        except (KeyError, TypeError, ValueError):
            raise wrong(key, expected) from None
        if length not in (None, len(data)) or not np.isfinite(data).all():
            raise wrong(key, expected)
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
