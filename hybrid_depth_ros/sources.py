"""Where the camera node's frames come from: a device, a video, a stream, a folder, the room."""

import os
import re
import shlex
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from hybrid_depth_ros.anchors.anchoring import read_pose
from hybrid_depth_ros.files import expanded, readable_name
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.pictures import STORED, read_colour
from hybrid_depth_ros.room import Room

SOURCES = ("room (the virtual room), a device (its number or file), a video, a stream's URL, an "
           'image or a folder of images')
LEAST_RATE, MOST_RATE, USUAL_RATE = 1.0, 240.0, 30.0  # Hz: what a video may claim, else the third
STREAM_PATIENCE = 5000  # ms that a stream may take to open, or to bring a frame
STREAM_PAUSE = 1.0      # seconds between two tries to connect
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

    comes_back, remark = True, ''

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
    """The images of a folder in natural order (frame2 before frame10), or one image.

    Raises OSError for a folder without images, and from :meth:`read` for an image that
    can't be read; the next read goes on behind it.
    """

    rate, intrinsics, remark = 10.0, None, ''
    comes_back = True  # after an OSError

    def __init__(self, path, loop=False, as_stored=False):
        path = Path(path)
        self._files = [path] if path.is_file() else sorted(
            (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES),
            key=lambda file: [int(part) if part.isdecimal() else part
                              for part in re.split(r'(\d+)', file.name.lower())])
        if not self._files:
            raise OSError(f'{path} holds no image ({", ".join(IMAGE_SUFFIXES)}); put some '
                          'there, or name another folder')
        self._loop, self._next, self._readable = loop, 0, False
        self._flags = STORED if as_stored else cv2.IMREAD_COLOR

    def read(self):
        """The next Frame, or None behind the last one when it doesn't loop."""
        if self._next == len(self._files):
            if not self._loop or not self._readable:
                return None
            self._next = 0
        path = self._files[self._next]
        self._next += 1
        frame = Frame(read_colour(path, self._flags))
        self._readable = True
        return frame

    def close(self):
        """Nothing to give back."""


class VideoSource:
    """A video file, a stream by its URL, or a camera device by its number.

    A stream that breaks off is connected to again. Raises OSError where it can't be opened, a
    file holds no frame, or a device or a stream stops giving them: ``comes_back`` says whether
    it may give some later.
    """

    intrinsics = None

    def __init__(self, source, loop=False, width=0, height=0, rate=0.0, as_stored=False):
        self._as_stored = as_stored
        self._source, self._loop, self._begun, self.remark = source, loop, False, ''
        self._device = isinstance(source, int)
        self._video = self._open()
        if not self._video.isOpened():
            raise OSError(self._not_opened())
        if self._device:
            for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, width),
                               (cv2.CAP_PROP_FRAME_HEIGHT, height), (cv2.CAP_PROP_FPS, rate)):
                if value:
                    self._video.set(key, value)
        # a film over http has an end, a camera's stream has none
        self.comes_back = (is_url(source) and self._video.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)
        self._tried = time.monotonic()
        reported = self._video.get(cv2.CAP_PROP_FPS)
        self.rate = reported if LEAST_RATE <= reported <= MOST_RATE else USUAL_RATE
        if not self._device and self.rate != reported and not rate:
            self.remark = (f'{source} claims {reported:g} frames a second, and is read at '
                           f'{self.rate:g} Hz; set rate for another')

    def _open(self):
        video = self._capture()
        if self._as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return video

    def _capture(self):
        if self._device:
            return cv2.VideoCapture(self._source)
        if is_url(self._source):
            return cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_PATIENCE,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_PATIENCE])
        with readable_name(self._source) as name:
            return cv2.VideoCapture(name)

    def _not_opened(self):
        if self._device:
            found = ', '.join(sorted(str(p) for p in Path('/dev').glob('video*'))) or 'none'
            return (f'camera device {self._source} cannot be opened (devices here: {found}); '
                    'plug it in, close what else uses it, and let this user read it: '
                    'sudo usermod -aG video $USER')
        if is_url(self._source):
            return (f'{without_password(self._source)} gives no stream that OpenCV can read; see '
                    'whether the camera is on, and whether its address, user and password are '
                    'right')
        return (f'{self._source} is not a video that OpenCV can open; convert it: '
                f'ffmpeg -i {shlex.quote(str(self._source))} video.mp4')

    def _read_again(self):
        """A stream's or a file's first picture, opened anew: not every file can be rewound."""
        self._video.release()
        self._video, self._tried = self._open(), time.monotonic()
        return self._video.read()

    def read(self):
        """The next Frame, or None at the end of a file that doesn't loop."""
        good, image = self._video.read()
        if not good and self._device:
            raise OSError(f'camera device {self._source} gives no more frames; plug it in '
                          'again, and start the node again')
        if not good and self.comes_back:
            if time.monotonic() - self._tried > STREAM_PAUSE:
                good, image = self._read_again()
            if not good:
                raise OSError(f'{without_password(self._source)} gives no more frames; it is '
                              'tried again and again')
        if not good and self._loop and self._begun:
            good, image = self._read_again()
        if not good and not self._begun:
            raise OSError(f'{self._source} holds no frame that OpenCV can read; convert it: '
                          f'ffmpeg -i {shlex.quote(str(self._source))} video.mp4')
        if not good:
            return None
        self._begun = True
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def close(self):
        """Give the device, the stream or the file back."""
        self._video.release()


def is_url(source):
    """Whether it is the address of a stream: ``rtsp://…``, ``http://…``."""
    return isinstance(source, str) and bool(re.match(r'[a-z][a-z0-9+.-]*://', source, re.I))


def without_password(url):
    """A URL as a log may show it."""
    return re.sub(r'(://[^/@]*:)[^/@]*@', r'\1…@', url)


def open_source(name, *, width=640, height=480, horizontal_fov=63.3, seed=0, rate=0.0,
                loop=True, as_stored=False):
    """``room``, a device, a video, a stream's URL, an image or a folder of them → a source.

    A device is a number or its file, ``/dev/video0`` or one of udev's links. width, height: of
    the room's picture, asked of a device, of no effect on files. rate 0: the source's own.
    horizontal_fov (degrees) and seed: the room's. as_stored: don't turn
    pictures and videos upright as their files ask for; a calibration is of pixels as stored.
    Raises OSError where it is not there or can't be read.
    """
    if name == 'room':
        return RoomSource(width, height, horizontal_fov, seed, rate or 10.0)
    if name.lower().startswith('file://'):
        name = unquote(urlsplit(name).path)
    if is_url(name):
        return VideoSource(name, loop, rate=rate, as_stored=as_stored)
    if not name:
        raise OSError('source is empty; use ' + SOURCES)
    number = re.fullmatch(r'(?:/dev/video)?([0-9]{1,4})', name)
    path = expanded(name)
    if not number and str(path).startswith('/dev/'):  # udev's links, as /dev/v4l/by-id/…
        number = re.fullmatch(r'/dev/video([0-9]{1,4})', os.path.realpath(path))
    if number:
        return VideoSource(int(number[1]), width=width, height=height, rate=rate)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES):
        return FolderSource(path, loop, as_stored)
    if path.is_file():
        return VideoSource(path, loop, rate=rate, as_stored=as_stored)
    raise OSError(f'{name}: no such device, file or folder; use {SOURCES}')
