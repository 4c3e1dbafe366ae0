"""Image files: read whole or refused, written safely; snapshots of a camera as a folder."""

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from hybrid_depth_ros.encodings import depth_to_millimetres
from hybrid_depth_ros.files import atomic_write
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import save_ply

AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # colour, not turned as EXIF asks for

TIFF_ORIENTATION = 274  # its tag


def read_pixels(path: str | Path, flags: int = cv2.IMREAD_COLOR) -> npt.NDArray[Any]:
    """An image file of any kind that OpenCV reads → its array.

    Its bytes are read here: OpenCV's own reading crashes where the name is not UTF-8.

    Args:
        path: The file.
        flags: ``cv2.IMREAD_…``.

    Raises:
        OSError: The pixels are not all there.
    """
    data = Path(path).read_bytes()
    if flags & cv2.IMREAD_IGNORE_ORIENTATION:  # a bit of cv2.IMREAD_UNCHANGED too
        data = _as_stored(data)
    if not _cut_short(data):
        with contextlib.suppress(cv2.error):  # more pixels than OpenCV takes
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return pixels
    raise OSError(f'{path} is not a readable image; remove it or copy it again')


def read_colour(path: str | Path, flags: int = AS_STORED) -> npt.NDArray[np.uint8]:
    """An image file → uint8 H×W×3 RGB, as stored: depth and calibrations are so too.

    Raises:
        OSError: As :func:`read_pixels`.
    """
    bgr = read_pixels(path, flags)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, bgr).astype(np.uint8, copy=False)


def _as_stored(data: bytes) -> bytes:
    """A file's bytes without the orientation of a TIFF, which OpenCV obeys in any case."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(data[:4])
    if not order:
        return data
    with contextlib.suppress(struct.error):  # cut short: OpenCV says so
        place = 2 + struct.unpack_from(f'{order}I', data, 4)[0]
        count, = struct.unpack_from(f'{order}H', data, place - 2)
        for entry in range(place, place + 12 * count, 12):
            if struct.unpack_from(f'{order}H', data, entry) == (TIFF_ORIENTATION,):
                kept = struct.pack(f'{order}H', 1)
                return data[:entry + 8] + kept + data[entry + 10:]
    return data


def _cut_short(data: bytes) -> bool:
    """Whether the end of a JPEG or PNG file is not there, which OpenCV 4 shows as grey."""
    if data.startswith(b'\xff\xd8'):
        return b'\xff\xd9' not in data[data.rfind(b'\xff\xda'):]
    return not data or (data.startswith(b'\x89PNG') and b'IEND' not in data[-64:])


def save_image(path: str | Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write an image, uint8 H×W×3 RGB, in the format that the suffix names.

    Raises:
        OSError: It can't be written.
    """
    _write_image(Path(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def _write_image(path: Path, pixels: npt.NDArray[Any]) -> None:
    # not by imwrite, which doesn't see that a disk is full
    _, data = cv2.imencode(path.suffix, pixels)
    path.write_bytes(data.tobytes())


@dataclass(frozen=True)
class CameraSnapshot:
    """One moment of a camera, to be written as files.

    Attributes:
        rgb: uint8 H×W×3.
        depth: float32 H×W metres, NaN where unknown.
        intrinsics: Of both, where known.
        cloud: Of dtype ``point_cloud.POINT``, where wanted.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: Intrinsics | None = None
    cloud: npt.NDArray[Any] | None = None


def save_snapshot(folder: Path, cameras: Mapping[str, CameraSnapshot]) -> None:
    """Write a folder of files for each camera, or only the files where the camera has no name.

    The folder appears when all is in it, and nothing that was there before is written into or
    through.

    Args:
        folder: To be made.
        cameras: By the camera's name, which may be empty.

    Raises:
        OSError: It can't be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder, folder=True) as partial:
        for name, snapshot in cameras.items():
            (partial / name).mkdir(exist_ok=True)
            write_snapshot_files(partial / name, name or folder.name, snapshot)


def write_snapshot_files(folder: Path, name: str, snapshot: CameraSnapshot) -> None:
    """Write ``rgb.png``, ``depth.png`` and, where known, ``camera.yaml`` and ``cloud.ply``.

    depth.png is uint16 millimetres, 0 where unknown (REP 118). camera.yaml is a calibration as
    camera_calibration writes it; `name` is the camera's in it.
    """
    save_image(folder / 'rgb.png', snapshot.rgb)
    _write_image(folder / 'depth.png', depth_to_millimetres(snapshot.depth))
    if snapshot.cloud is not None:
        save_ply(folder / 'cloud.ply', snapshot.cloud)
    if snapshot.intrinsics is not None:
        (folder / 'camera.yaml').write_text(
            yaml.safe_dump(_calibration_file(name, snapshot.intrinsics), sort_keys=False))


def _calibration_file(name: str, intrinsics: Intrinsics) -> dict[str, Any]:
    """What camera_calibration writes for an undistorted camera."""
    matrix = intrinsics.matrix

    def entry(values: npt.NDArray[np.float64], rows: int, columns: int) -> dict[str, Any]:
        return {'rows': rows, 'cols': columns, 'data': values.ravel().tolist()}
    return {'image_width': intrinsics.width, 'image_height': intrinsics.height,
            'camera_name': name, 'camera_matrix': entry(matrix, 3, 3),
            'distortion_model': 'plumb_bob',
            'distortion_coefficients': entry(np.zeros(5), 1, 5),
            'rectification_matrix': entry(np.eye(3), 3, 3),
            'projection_matrix': entry(np.hstack((matrix, np.zeros((3, 1)))), 3, 4)}
