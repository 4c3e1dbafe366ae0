"""Where the camera node's frames come from: a device, a video, a folder, the virtual room."""

import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from hybrid_depth_ros.anchors.anchoring import read_pose
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.room import Room

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')


# The virtual room's lidar: 30 cm below the camera, level where the camera looks 11° down as it
# mostly does. x y z roll pitch yaw seen from the camera (m, degrees; x forward, y left, z up).
LIDAR_POSE = '0 0 -0.3 0 -11 0'
LIDAR_ANGLES = np.linspace(-np.pi, np.pi, 360, endpoint=False)
LIDAR_RANGE, LIDAR_NOISE = (0.12, 5.0), 0.01  # metres


class Frame(NamedTuple):
    """One picture: rgb uint8 H×W×3; depth float32 H×W metres where it is known exactly."""

    rgb: np.ndarray
    depth: np.ndarray | None = None


class RoomSource:
    """The virtual room, with exact depth. rate: frames per second, the camera's own pace."""

    def __init__(self, width=640, height=480, horizontal_fov=63.3, seed=0, rate=10.0):
        self.rate = rate
        self.intrinsics = Intrinsics.from_horizontal_fov(width, height, horizontal_fov)
        self._room, self._seed, self._count = Room(seed), seed, 0
        self._lidar = read_pose(LIDAR_POSE)

    def read(self):
        """The next Frame; the flight never ends."""
        pose = self._room.camera_pose(self._count / self.rate)
        self._count += 1
        return Frame(*self._room.render(self.intrinsics, pose))

    def scan(self):
        """What the lidar measures at the moment of the last frame: float32 metres at
        ``LIDAR_ANGLES``, inf where nothing is within its range."""
        moment = max(0, self._count - 1)
        pose = self._room.camera_pose(moment / self.rate) @ self._lidar
        noise = np.random.default_rng([self._seed, 9, moment]).normal(
            0, LIDAR_NOISE, LIDAR_ANGLES.size)
        ranges = (self._room.scan(pose, LIDAR_ANGLES) + noise).astype(np.float32)
        nearest, farthest = LIDAR_RANGE
        return np.where((ranges >= nearest) & (ranges <= farthest), ranges, np.float32(np.inf))

    def close(self):
        """Nothing to give back."""


class FolderSource:
    """The images of a folder in natural order (frame2 before frame10).

    Raises OSError for a folder without images, and from :meth:`read` for an image that
    can't be read; the next read goes on behind it.
    """

    rate, intrinsics = 10.0, None

    def __init__(self, path, loop=False):
        self._files = sorted((f for f in Path(path).iterdir()
                              if f.suffix.lower() in IMAGE_SUFFIXES),
                             key=lambda f: [int(part) if part.isdigit() else part
                                            for part in re.split(r'(\d+)', f.name.lower())])
        if not self._files:
            raise OSError(f'{path} holds no image ({", ".join(IMAGE_SUFFIXES)}); put some '
                          'there, or name another folder')
        self._loop, self._next, self._readable = loop, 0, False

    def read(self):
        """The next Frame, or None behind the last one when it doesn't loop."""
        if self._next == len(self._files):
            if not self._loop or not self._readable:
                return None
            self._next = 0
        path = self._files[self._next]
        self._next += 1
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise OSError(f'{path} is not an image that can be read; skipped')
        self._readable = True
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def close(self):
        """Nothing to give back."""


class VideoSource:
    """A video file, or a camera device by its number.

    Raises OSError where it can't be opened, a file holds no frame, or a device stops giving
    them.
    """

    intrinsics = None

    def __init__(self, source, loop=False, width=0, height=0, rate=0.0):
        self._device = isinstance(source, int)
        self._source, self._loop, self._begun = source, loop, False
        self._video = cv2.VideoCapture(source)
        if not self._video.isOpened():
            if self._device:
                found = ', '.join(sorted(str(p) for p in Path('/dev').glob('video*'))) or 'none'
                raise OSError(f'camera device {source} cannot be opened (devices here: {found}); '
                              'plug it in, close what else uses it, and let this user read it: '
                              'sudo usermod -aG video $USER')
            raise OSError(f'{source} is not a video that OpenCV can open; convert it: '
                          f'ffmpeg -i {source} video.mp4')
        if self._device:
            for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, width),
                               (cv2.CAP_PROP_FRAME_HEIGHT, height), (cv2.CAP_PROP_FPS, rate)):
                if value:
                    self._video.set(key, value)
        reported = self._video.get(cv2.CAP_PROP_FPS)
        self.rate = reported if np.isfinite(reported) and 0 < reported <= 1000 else 30.0

    def read(self):
        """The next Frame, or None at the end of a file that doesn't loop."""
        good, image = self._video.read()
        if not good and self._device:
            raise OSError(f'camera device {self._source} gives no more frames; plug it in '
                          'again, and start the node again')
        if not good and self._loop:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, 0)
            good, image = self._video.read()
        if not good and not self._begun:
            raise OSError(f'{self._source} holds no frame that OpenCV can read; convert it: '
                          f'ffmpeg -i {self._source} video.mp4')
        if not good:
            return None
        self._begun = True
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def close(self):
        """Give the device or file back."""
        self._video.release()


def open_source(name, *, width=640, height=480, horizontal_fov=63.3, seed=0, rate=0.0,
                loop=True):
    """``room``, a device number, a video file or a folder of images → a source.

    width, height: of the room's picture, asked of a device, of no effect on files. rate 0:
    the source's own. horizontal_fov (degrees) and seed: the room's.
    Raises OSError where it is not there or can't be read.
    """
    if name == 'room':
        return RoomSource(width, height, horizontal_fov, seed, rate or 10.0)
    number = re.fullmatch(r'(?:/dev/video)?(\d+)', name)
    if number:
        return VideoSource(int(number[1]), width=width, height=height, rate=rate)
    path = Path(name).expanduser()
    if path.is_dir():
        return FolderSource(path, loop)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise OSError(f'{path} is one image; put it into a folder and name the folder')
        return VideoSource(str(path), loop)
    raise OSError(f'{name}: no such device, file or folder; use room, a device number, '
                  'a video file or a folder of images')
