"""Sources of the camera node's frames: a device, a video, a stream, a folder, a virtual room."""

from __future__ import annotations

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
import numpy.typing as npt

from hybrid_depth_ros.depth_camera import DEPTH_CAMERAS, measured_depth
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user, utf8_path
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import AS_STORED, read_colour
from hybrid_depth_ros.poses import Pose, read_pose
from hybrid_depth_ros.virtual_room import Room

SOURCE_HELP = ("room (the virtual room), a device (its number or file), a video, a stream's URL, "
               'an image or a folder of images')
MIN_RATE, MAX_RATE = 1.0, 240.0  # Hz: a video's own rate is believed within these
DEFAULT_RATE = 30.0        # Hz: of a video whose own rate is not believed
ROOM_RATE = 10.0           # Hz: of the virtual room
STREAM_TIMEOUT = 5000      # ms that a stream may take to open, or to bring a frame
RECONNECT_INTERVAL = 1.0   # seconds between two tries to connect
FRAME_TIMEOUT = 0.2        # seconds that a read waits for a camera's next frame
CLOSE_TIMEOUT = 0.5        # seconds to wait for a camera to be given back
OPENCV_LOG_ERRORS = 2      # cv2.setLogLevel
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')

# The virtual room's lidar: 30 cm below the camera, level where the camera looks 11° down as it
# mostly does. x y z roll pitch yaw seen from the camera (m, degrees; x forward, y left, z up).
LIDAR_POSE = '0 0 -0.3 0 -11 0'
LIDAR_ANGLES = np.linspace(-np.pi, np.pi, 360, endpoint=False)
LIDAR_RANGE, LIDAR_NOISE = (0.12, 5.0), 0.01  # metres
DEPTH_CAMERA = 'realsense'  # the virtual room's


class SourceFrame(NamedTuple):
    """One image: rgb uint8 H×W×3; depth float32 H×W metres where it is known exactly."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None = None


class Source:
    """Frames from somewhere, one by one.

    Attributes:
        rate: Hz, how often :meth:`read` gives a frame.
        intrinsics: Of its camera, where they are known.
        recoverable: An OSError of :meth:`read` is of this frame alone; the next may come.
        warning: A sentence for the log, or empty.
        ended: No frame will come any more.
    """

    rate: float
    intrinsics: Intrinsics | None = None
    recoverable = True
    warning = ''
    ended = False

    def read(self) -> SourceFrame | None:
        """The next frame; None where there is none yet or, with ``ended``, none any more.

        Raises:
            OSError: It can't be read.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release the device or file."""


class RoomSource(Source):
    """A virtual room, with exact depth.

    Args:
        width: Of the image.
        height: Of the image.
        horizontal_fov: Degrees.
        seed: The room's.
        rate: Hz.
    """

    intrinsics: Intrinsics

    def __init__(self, width: int = 640, height: int = 480, horizontal_fov: float = 63.3,
                 seed: int = 0, rate: float = ROOM_RATE) -> None:
        self.rate = rate
        self.intrinsics = Intrinsics.from_horizontal_fov(width, height, horizontal_fov)
        self._room, self._seed, self._count = Room(seed), seed, 0
        lidar = read_pose(LIDAR_POSE)
        assert lidar is not None  # as only that of an empty text is
        self._lidar = lidar

    def read(self) -> SourceFrame:
        """The next frame; the walk never ends."""
        pose = self._room.camera_pose(self._count / self.rate)
        self._count += 1
        return SourceFrame(*self._room.render(self.intrinsics, pose))

    def pose(self) -> Pose:
        """The camera's pose in the room at the time of the last frame, 4×4."""
        return self._room.camera_pose(max(0, self._count - 1) / self.rate)

    def scan(self) -> npt.NDArray[np.float32]:
        """The lidar's ranges at the time of the last frame: metres at ``LIDAR_ANGLES``.

        inf where nothing is within its range.
        """
        moment = max(0, self._count - 1)
        pose = self._room.camera_pose(moment / self.rate) @ self._lidar
        noise = np.random.default_rng([self._seed, 9, moment]).normal(
            0, LIDAR_NOISE, LIDAR_ANGLES.size)
        ranges = (self._room.scan(pose, LIDAR_ANGLES) + noise).astype(np.float32)
        nearest, farthest = LIDAR_RANGE
        return np.where((ranges >= nearest) & (ranges <= farthest), ranges, np.float32(np.inf))

    def registered_depth(self, frame: SourceFrame) -> npt.NDArray[np.float32]:
        """What a depth camera measures of the last frame, with its noise and holes: H×W metres."""
        assert frame.depth is not None
        rng = np.random.default_rng([self._seed, 10, self._count])
        return measured_depth(DEPTH_CAMERAS[DEPTH_CAMERA], frame.rgb, frame.depth,
                              self.intrinsics.fx, rng)


class FolderSource(Source):
    """The images of a folder in natural order (frame2 before frame10), or one image.

    After an image that can't be read, the next :meth:`read` goes on behind it.

    Args:
        path: Of the folder or image.
        loop: Start again after the last image.
        as_stored: Don't turn images as their EXIF orientation asks for.

    Raises:
        OSError: The folder holds no image.
    """

    rate = 10.0

    def __init__(self, path: str | Path, loop: bool = False, as_stored: bool = False) -> None:
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
        self._flags = AS_STORED if as_stored else cv2.IMREAD_COLOR

    def read(self) -> SourceFrame | None:
        """The next frame; None after the last one when it doesn't loop."""
        if self._next == len(self._files):
            if not self._loop or not self._readable:
                self.ended = True
                return None
            self._next = 0
        path = self._files[self._next]
        self._next += 1
        frame = SourceFrame(read_colour(path, self._flags))
        self._readable = True
        return frame


class VideoSource(Source):
    """A video file.

    Args:
        path: Of the file.
        loop: Start again after the last frame.
        rate: Hz, asked for; 0: the video's own.
        as_stored: Don't turn frames as the file's orientation asks for.

    Raises:
        OSError: It can't be opened.
    """

    recoverable = False

    def __init__(self, path: Path, loop: bool = False, rate: float = 0.0,
                 as_stored: bool = False) -> None:
        self._path, self._loop, self._as_stored = path, loop, as_stored
        self._begun = False
        self._video = self._open()
        if not self._video.isOpened():
            raise OSError(f'{path} is not a video that OpenCV can open; {_conversion_hint(path)}')
        self.rate, self.warning = playback_rate(self._video, str(path), rate)

    def _open(self) -> cv2.VideoCapture:
        with utf8_path(self._path) as name:
            video = cv2.VideoCapture(name)
        if self._as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return video

    def read(self) -> SourceFrame | None:
        """The next frame; None at the end of a file that doesn't loop."""
        good, image = self._video.read()
        if not good and self._loop and self._begun:  # anew: not every file can be rewound
            self._video.release()
            self._video = self._open()
            good, image = self._video.read()
        if not good and not self._begun:
            raise OSError(f'{self._path} holds no frame that OpenCV can read; '
                          + _conversion_hint(self._path))
        self._begun, self.ended = True, not good
        return _frame_of(image) if good else None

    def close(self) -> None:
        """Close the file."""
        self._video.release()


def _frame_of(bgr: npt.NDArray[np.integer | np.floating]) -> SourceFrame:
    return SourceFrame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))


def _conversion_hint(path: Path) -> str:
    return f'convert it: ffmpeg -i {shlex.quote(str(path))} video.mp4'


def playback_rate(video: cv2.VideoCapture, name: str, asked: float = 0.0) -> tuple[float, str]:
    """(Hz at which to read an open video, a warning where that is not the video's own rate)."""
    claimed = video.get(cv2.CAP_PROP_FPS)
    if MIN_RATE <= claimed <= MAX_RATE:
        return claimed, ''
    return DEFAULT_RATE, '' if asked else (
        f'{name} claims {claimed:g} frames a second, and is read at {DEFAULT_RATE:g} Hz; set rate '
        'for another')


class LiveSource(Source):
    """A camera device by its number or file, or a stream by its URL, connected to again and again.

    A thread connects and reads, so that a silent camera blocks nothing, and of a camera that is
    faster than it is read the newest frame counts. ``rate`` is the highest there is, as
    :meth:`read` waits for the next frame; a video over http, which has an end and is read frame by
    frame, has its own.

    Args:
        source: Device or URL.
        loop: Start again at the end of a video over http.
        width: Asked of a device; 0: its own.
        height: Asked of a device; 0: its own.
        rate: Hz, asked of a device; 0: its own.
        as_stored: Don't turn frames as the stream's orientation asks for.

    Raises:
        ValueError: The URL names no machine.
    """

    def __init__(self, source: str, loop: bool = False, width: int = 0, height: int = 0,
                 rate: float = 0.0, as_stored: bool = False) -> None:
        self._source, self._loop, self._as_stored = source, loop, as_stored
        self._size, self._asked_rate = (width, height), rate
        self._is_stream = is_url(source)
        self.name = redact_password(source) if self._is_stream else source
        if self._is_stream and not _has_host(source):
            raise ValueError(f'{self.name} names no machine; it is written '
                             'rtsp://HOST:PORT/PATH, with %23 for a # in a password, %2F for a /')
        self.rate = MAX_RATE
        self._image: npt.NDArray[np.integer | np.floating] | None = None
        self._failure, self._closing = '', False
        self._changed = threading.Condition()
        if set_log_level := getattr(cv2, 'setLogLevel', None):  # OpenCV warns at each try
            set_log_level(OPENCV_LOG_ERRORS)
        self._thread = threading.Thread(target=self._connect_and_read, name='camera', daemon=True)
        self._thread.start()

    def read(self) -> SourceFrame | None:
        """As :meth:`Source.read`.

        Raises:
            OSError: The camera can't be reached at the moment.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._image is not None or self.ended, FRAME_TIMEOUT)
            image, self._image = self._image, None
            self._changed.notify_all()
            if image is None and self._failure:
                raise OSError(self._failure)
        return None if image is None else _frame_of(image)

    def _connect_and_read(self) -> None:
        while not self._closing and not self.ended:
            try:
                failure = self._connect()
            except Exception as error:  # a device may go at any moment; the next try is another
                failure = f'{self.name}: {reason(error)}'
            if not failure:
                continue
            with self._changed:
                self._failure = f'{failure}; it is tried again and again'
                self._changed.wait_for(lambda: self._closing, RECONNECT_INTERVAL)

    def _connect(self) -> str:
        """Connect, and read until no frame comes; why none comes, or ''."""
        if not self._is_stream and (failure := missing_device_reason(self._source)):
            return failure
        video = self._open()
        try:
            if not video.isOpened():
                return self._open_failure()
            begun, is_file = self._forward_frames(video), self._is_video_file(video)
        finally:
            video.release()
        if is_file and begun:
            with self._changed:
                self.ended = not self._loop
                self._changed.notify_all()
            return ''
        return f'{self.name} ' + ('gives no more frames' if begun else
                                  'is there, but gives no frame')

    def _forward_frames(self, video: cv2.VideoCapture) -> bool:
        """Read until no frame comes; whether one came."""
        is_file, begun = self._is_video_file(video), False
        if is_file:
            self.rate, self.warning = playback_rate(video, self.name, self._asked_rate)
        while not self._closing:
            good, image = video.read()
            if not good:
                break
            begun = True
            with self._changed:
                if is_file:
                    self._changed.wait_for(lambda: self._image is None or self._closing)
                self._image, self._failure = image, ''
                self._changed.notify_all()
        return begun

    def _is_video_file(self, video: cv2.VideoCapture) -> bool:
        """Whether a stream is a file over http, which has an end."""
        return self._is_stream and video.get(cv2.CAP_PROP_FRAME_COUNT) > 0

    def _open(self) -> cv2.VideoCapture:
        if self._is_stream:
            video = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT])
        else:
            number = device_number(self._source)
            video = cv2.VideoCapture(-1 if number is None else number)
            for key, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT,
                                   cv2.CAP_PROP_FPS), (*self._size, self._asked_rate)):
                if value:
                    video.set(key, value)
        if self._as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return video

    def _open_failure(self) -> str:
        if self._is_stream:
            return (f'{self.name} gives no stream that OpenCV can read; see whether the camera is '
                    'on, and whether its address, user and password are right')
        return (f'camera device {self.name} cannot be opened ({_devices_here()}); close what else '
                'uses it, and let this user read it: sudo usermod -aG video $USER')

    def close(self) -> None:
        """Release the device or the stream, unless it is being waited for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT)


def _devices_here() -> str:
    return 'devices here: ' + (', '.join(sorted(map(str, Path('/dev').glob('video*')))) or 'none')


def device_number(source: str) -> int | None:
    """N of /dev/videoN, of a device's number or file; None where there is no such file now."""
    path = f'/dev/video{source}' if source.isdecimal() else source
    found = re.fullmatch(r'/dev/video([0-9]{1,4})', os.path.realpath(path))
    return int(found[1]) if found else None


def missing_device_reason(source: str) -> str:
    """Why a device (see :func:`is_device`) can't even be tried, or ''."""
    number = device_number(source)
    if number is not None and os.path.exists(f'/dev/video{number}'):
        return ''
    return f'camera device {source} is not there ({_devices_here()}); plug it in'


def is_device(source: str) -> bool:
    """Whether a source is a camera's number, or a file in /dev.

    A link of udev's is gone while the camera is.
    """
    return (re.fullmatch('0|[1-9][0-9]{0,3}', source) is not None
            or (source.startswith('/dev/') and not source.startswith('/dev/shm/') and (
                not os.path.exists(source) or device_number(source) is not None)))


def is_url(source: object) -> bool:
    """Whether it is the address of a stream: ``rtsp://…``, ``http://…``."""
    return isinstance(source, str) and bool(re.match(r'[a-z][a-z0-9+.-]*://', source, re.I))


def _has_host(url: str) -> bool:
    with contextlib.suppress(ValueError):  # of a port that is no number
        parts = urlsplit(url)
        return bool(parts.netloc) and parts.port != 0
    return False


def redact_password(url: str) -> str:
    """A URL as a log may show it."""
    return re.sub(r'(://[^/@:]*:).*@', r'\1…@', url)


def open_source(name: str, *, width: int = 640, height: int = 480, horizontal_fov: float = 63.3,
                seed: int = 0, rate: float = 0.0, loop: bool = True,
                as_stored: bool = False) -> Source:
    """``room``, a device, a video, a stream's URL, an image or a folder of them → a source.

    Args:
        name: A device is a number or its file, ``/dev/video0`` or one of udev's links.
        width: Of the virtual room's image, asked of a device, of no effect on files.
        height: Likewise.
        horizontal_fov: Degrees, of the virtual room's camera.
        seed: Of the virtual room.
        rate: Hz; 0: the source's own.
        loop: Start files again at their end.
        as_stored: Don't turn images and videos upright as their files ask for; a calibration is of
            pixels as stored.

    Raises:
        OSError: It is not there or can't be read.
    """
    if name == 'room':
        return RoomSource(width, height, horizontal_fov, seed, rate or ROOM_RATE)
    if name.lower().startswith('file://'):
        name = unquote(urlsplit(name).path)
    if not name:
        raise OSError('source is empty; use ' + SOURCE_HELP)
    if is_url(name) or is_device(name):
        return LiveSource(name, loop, width, height, rate, as_stored)
    path = expand_user(name)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES):
        return FolderSource(path, loop, as_stored)
    if path.is_file():
        return VideoSource(path, loop, rate, as_stored)
    raise OSError(f'{name}: no such device, file or folder; use {SOURCE_HELP}')
