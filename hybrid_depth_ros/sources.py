"""Where the camera node's frames come from: a device, a video, a stream, a folder, the room."""

import contextlib
import os
import re
import shlex
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user, readable_name
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import STORED, read_colour
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.virtual_room import Room

SOURCES = ("room (the virtual room), a device (its number or file), a video, a stream's URL, an "
           'image or a folder of images')
LEAST_RATE, MOST_RATE, USUAL_RATE = 1.0, 240.0, 30.0  # Hz: what a video may claim, else the third
STREAM_PATIENCE = 5000  # ms that a stream may take to open, or to bring a frame
STREAM_PAUSE = 1.0      # seconds between two tries to connect
FRAME_PATIENCE = 0.2    # seconds that a read waits for a camera's next frame
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


class Source:
    """Frames from somewhere, by ``read()``, at ``rate`` Hz.

    ``intrinsics``: of its camera, where they are known. ``comes_back``: an OSError of :meth:`read`
    is of this frame alone. ``remark``: a sentence for the log. ``ended``: no frame will come.
    """

    intrinsics, comes_back, remark, ended = None, True, '', False

    def close(self):
        """Give back what it holds."""


class RoomSource(Source):
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


class FolderSource(Source):
    """The images of a folder in natural order (frame2 before frame10), or one image.

    Raises OSError for a folder without images, and from :meth:`read` for an image that
    can't be read; the next read goes on behind it.
    """

    rate = 10.0

    def __init__(self, path, loop=False, as_stored=False):
        path = Path(path)
        self._files = [path] if path.is_file() else sorted(
            (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES
             and not file.name.startswith('.')),  # macOS lays ._1.jpg beside 1.jpg
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
                self.ended = True
                return None
            self._next = 0
        path = self._files[self._next]
        self._next += 1
        frame = Frame(read_colour(path, self._flags))
        self._readable = True
        return frame


class VideoSource(Source):
    """A video file. Raises OSError where it can't be opened or holds no frame."""

    comes_back = False

    def __init__(self, path, loop=False, rate=0.0, as_stored=False):
        self._path, self._loop, self._as_stored = path, loop, as_stored
        self._begun = False
        self._video = self._open()
        if not self._video.isOpened():
            raise OSError(f'{path} is not a video that OpenCV can open; {_convert(path)}')
        self.rate, self.remark = believed_rate(self._video, path, rate)

    def _open(self):
        with readable_name(self._path) as name:
            video = cv2.VideoCapture(name)
        if self._as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return video

    def read(self):
        """The next Frame, or None at the end of a file that doesn't loop."""
        good, image = self._video.read()
        if not good and self._loop and self._begun:  # anew: not every file can be rewound
            self._video.release()
            self._video = self._open()
            good, image = self._video.read()
        if not good and not self._begun:
            raise OSError(f'{self._path} holds no frame that OpenCV can read; '
                          + _convert(self._path))
        self._begun, self.ended = True, not good
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) if good else None

    def close(self):
        """Give the file back."""
        self._video.release()


def _convert(path):
    return f'convert it: ffmpeg -i {shlex.quote(str(path))} video.mp4'


def believed_rate(video, name, asked=0.0):
    """(Hz that an open video is read at, a remark where that is not what it claims)."""
    claimed = video.get(cv2.CAP_PROP_FPS)
    if LEAST_RATE <= claimed <= MOST_RATE:
        return claimed, ''
    return USUAL_RATE, '' if asked else (f'{name} claims {claimed:g} frames a second, and is read '
                                         f'at {USUAL_RATE:g} Hz; set rate for another')


class LiveSource(Source):
    """A camera device by its number or file, or a stream by its URL, connected to again and again.

    A thread connects and reads, so that a camera that is silent holds up nothing, and of one that
    is faster than it is asked for the newest frame counts. ``rate``: as often as :meth:`read` may
    be asked, which waits for the next frame; of a film over http, which has an end and is read
    frame by frame, its own. Raises ValueError for what is no address.
    """

    def __init__(self, source, loop=False, width=0, height=0, rate=0.0, as_stored=False):
        self._source, self._loop, self._as_stored = source, loop, as_stored
        self._size, self._asked_rate = (width, height), rate
        self._stream = is_url(source)
        self.name = without_password(source) if self._stream else source
        if self._stream and not _has_host(source):
            raise ValueError(f'{self.name} names no machine; it is written '
                             'rtsp://HOST:PORT/PATH, with %23 for a # in a password, %2F for a /')
        self.rate = MOST_RATE
        self._image, self._trouble, self._closing = None, '', False
        self._changed = threading.Condition()
        with contextlib.suppress(AttributeError):  # OpenCV's word at each try; ours is said once
            cv2.setLogLevel(2)
        self._thread = threading.Thread(target=self._work, name='camera', daemon=True)
        self._thread.start()

    def read(self):
        """The next Frame; None where there is none yet or, with ``ended``, none any more.

        Raises OSError while the camera can't be reached.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._image is not None or self.ended, FRAME_PATIENCE)
            image, self._image = self._image, None
            self._changed.notify_all()
            if image is None and self._trouble:
                raise OSError(self._trouble)
        return None if image is None else Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def _work(self):
        while not self._closing and not self.ended:
            trouble = ''
            try:
                trouble = self._connect()
            except Exception as error:  # a device may go at any moment; the next try is another
                trouble = f'{self.name}: {reason(error)}'
            if not trouble:
                continue
            with self._changed:
                self._trouble = f'{trouble}; it is tried again and again'
                self._changed.wait_for(lambda: self._closing, STREAM_PAUSE)

    def _connect(self):
        """Connect, and read until no frame comes; what is the trouble then, or ''."""
        if not self._stream and (trouble := device_missing(self._source)):
            return trouble
        video = self._open()
        try:
            if not video.isOpened():
                return self._not_opened()
            begun, film = self._hand_on(video), self._is_film(video)
        finally:
            video.release()
        if film and begun:
            with self._changed:
                self.ended = not self._loop
                self._changed.notify_all()
            return ''
        return f'{self.name} ' + ('gives no more frames' if begun else
                                  'is there, but gives no frame')

    def _hand_on(self, video):
        """Read until no frame comes; whether one came."""
        film, begun = self._is_film(video), False
        if film:
            self.rate, self.remark = believed_rate(video, self.name, self._asked_rate)
        while not self._closing:
            good, image = video.read()
            if not good:
                break
            begun = True
            with self._changed:
                if film:
                    self._changed.wait_for(lambda: self._image is None or self._closing)
                self._image, self._trouble = image, ''
                self._changed.notify_all()
        return begun

    def _is_film(self, video):
        return self._stream and video.get(cv2.CAP_PROP_FRAME_COUNT) > 0

    def _open(self):
        if self._stream:
            video = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_PATIENCE,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_PATIENCE])
        else:
            video = cv2.VideoCapture(device_number(self._source))
            for key, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT,
                                   cv2.CAP_PROP_FPS), (*self._size, self._asked_rate)):
                if value:
                    video.set(key, value)
        if self._as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return video

    def _not_opened(self):
        if self._stream:
            return (f'{self.name} gives no stream that OpenCV can read; see whether the camera is '
                    'on, and whether its address, user and password are right')
        return (f'camera device {self.name} cannot be opened ({_devices()}); close what else uses '
                'it, and let this user read it: sudo usermod -aG video $USER')

    def close(self):
        """Give the device or the stream back, unless it is being waited for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(0.5)


def _devices():
    return 'devices here: ' + (', '.join(sorted(map(str, Path('/dev').glob('video*')))) or 'none')


def device_number(source):
    """N of /dev/videoN, of a device's number or file; None where there is no such file now."""
    path = f'/dev/video{source}' if source.isdecimal() else source
    found = re.fullmatch(r'/dev/video([0-9]{1,4})', os.path.realpath(path))
    return int(found[1]) if found else None


def device_missing(source):
    """Why a device can't even be tried, or ''. source: as :func:`is_device` knows it."""
    number = device_number(source)
    if number is not None and os.path.exists(f'/dev/video{number}'):
        return ''
    return f'camera device {source} is not there ({_devices()}); plug it in'


def is_device(source):
    """Whether a source is a camera's number, or a file in /dev: one of udev's links may be gone
    while the camera is."""
    return (re.fullmatch('0|[1-9][0-9]{0,3}', source) is not None
            or (source.startswith('/dev/') and not source.startswith('/dev/shm/') and (
                not os.path.exists(source) or device_number(source) is not None)))


def is_url(source):
    """Whether it is the address of a stream: ``rtsp://…``, ``http://…``."""
    return isinstance(source, str) and bool(re.match(r'[a-z][a-z0-9+.-]*://', source, re.I))


def _has_host(url):
    with contextlib.suppress(ValueError):  # of a port that is no number
        parts = urlsplit(url)
        return bool(parts.netloc) and parts.port != 0
    return False


def without_password(url):
    """A URL as a log may show it."""
    return re.sub(r'(://[^/@:]*:).*@', r'\1…@', url)


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
    if not name:
        raise OSError('source is empty; use ' + SOURCES)
    if is_url(name) or is_device(name):
        return LiveSource(name, loop, width, height, rate, as_stored)
    path = expand_user(name)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES):
        return FolderSource(path, loop, as_stored)
    if path.is_file():
        return VideoSource(path, loop, rate, as_stored)
    raise OSError(f'{name}: no such device, file or folder; use {SOURCES}')
