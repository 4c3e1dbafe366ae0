"""Colour and true depth out of a rosbag2 recording, in pairs; needs no ROS.

rosbags reads the recording (a folder, an .mcap or a .db3 file). Frames are paired by the stamps
in their headers; what distorts a picture is taken out of it, and true depth is brought to the
pixels of the picture that it is compared with. The evaluator node pairs and registers by the
same functions.
"""

import os
import struct
from bisect import bisect_right
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_depth_ros.encodings import (
    compressed_to_depth,
    compressed_to_rgb,
    image_pixels,
    image_to_depth,
    intrinsics_from_camera_info,
    is_depth,
    pixels_to_rgb,
    rectification_from_camera_info,
)
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.geometry import Intrinsics

SLOP = 0.02  # seconds
TYPES = {f'sensor_msgs/msg/{name}': name for name in ('Image', 'CompressedImage', 'CameraInfo')}
KIND_NAMES = {'image': 'colour images', 'depth': 'depth images', 'camera_info': 'camera infos'}


# --- pairing ------------------------------------------------------------------------------

def _sweep(first, second, slop, ended):
    """Pairs of indices into two sorted lists of stamps, and how far each list is done with."""
    pairs, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        gap = second[j] - first[i]
        early, at, late = (first, i, second[j]) if gap >= 0 else (second, j, first[i])
        if abs(gap) <= slop:
            if gap and at + 1 == len(early) and not ended:
                break  # the next one may be nearer
            if not gap or at + 1 == len(early) or abs(early[at + 1] - late) >= abs(gap):
                pairs.append((i, j))
                i, j = i + 1, j + 1
                continue
        if gap >= 0:
            i += 1
        else:
            j += 1
    return pairs, i, j


def pair_stamps(images, depths, slop):
    """Pairs of frames whose stamps lie near each other.

    images, depths: stamps in any order; slop: the most that those of a pair may differ, in
    the same unit. Two that are each other's nearest are a pair (of two that are equally near,
    the earlier); each is used once. Returns ``[(index of image, index of depth), …]`` in the
    order of the stamps.
    """
    orders = [sorted(range(len(stamps)), key=stamps.__getitem__) for stamps in (images, depths)]
    pairs, _, _ = _sweep([images[i] for i in orders[0]], [depths[i] for i in orders[1]], slop,
                         ended=True)
    return [(orders[0][i], orders[1][j]) for i, j in pairs]


class StampPairing:
    """:func:`pair_stamps` for frames that are still coming: a pair as soon as it is sure.

    At most `kept` frames of a topic wait for a partner; then the earliest is given up.
    ``unpaired`` counts the frames that found none.
    """

    def __init__(self, slop, kept=100):
        self._slop, self._kept, self.unpaired = slop, kept, 0
        self._stamps, self._frames = ([], []), ([], [])

    def add(self, topic, stamp, frame):
        """Add a frame of topic 0 or 1; returns ``[(stamp of 0, frame 0, frame 1), …]``."""
        place = bisect_right(self._stamps[topic], stamp)
        self._stamps[topic].insert(place, stamp)
        self._frames[topic].insert(place, frame)
        pairs = self._take(ended=False)
        if len(self._stamps[topic]) > self._kept:
            del self._stamps[topic][0], self._frames[topic][0]
            self.unpaired += 1
        return pairs

    def finish(self):
        """What is still a pair when no more frames come."""
        pairs = self._take(ended=True)
        self.unpaired += self.waiting
        for waiting in (*self._stamps, *self._frames):
            waiting.clear()
        return pairs

    @property
    def waiting(self):
        """Frames that may still find a partner."""
        return sum(map(len, self._stamps))

    def _take(self, ended):
        indices, *done = _sweep(*self._stamps, self._slop, ended)
        pairs = [(self._stamps[0][i], self._frames[0][i], self._frames[1][j])
                 for i, j in indices]
        for topic, count in enumerate(done):
            del self._stamps[topic][:count], self._frames[topic][:count]
            self.unpaired += count - len(pairs)
        return pairs


# --- depth in another camera's pixels -----------------------------------------------------

def register_depth(depth, width, height, depth_camera=None, camera=None, transform=None):
    """Depth as a width×height camera has it: float32 H×W metres, NaN where nothing is known.

    depth: float32, any size. depth_camera, camera: Intrinsics of the depth and of the camera;
    where either is None, depth is only scaled to the size. transform: 4×4, the depth camera's
    pose in the other camera's frame; None: both look from one point in one direction.
    No depth is invented: each pixel takes its nearest one's, or of several that fall on it
    after a transform the nearest to the camera. Raises ValueError where intrinsics are for
    another size.
    """
    if depth_camera is None or camera is None:
        if depth.shape == (height, width):
            return depth
        rows, columns = ((2 * np.arange(size) + 1) * own // (2 * size)
                         for size, own in zip((height, width), depth.shape))
        return depth[rows[:, None], columns]
    for name, intrinsics, size in (('depth', depth_camera, depth.shape),
                                   ('camera', camera, (height, width))):
        if (intrinsics.height, intrinsics.width) != size:
            raise ValueError(f'the {name} is {size[1]}×{size[0]}, its intrinsics are for '
                             f'{intrinsics.width}×{intrinsics.height}')
    if transform is not None:
        return _project(depth, depth_camera, camera, np.asarray(transform))
    if depth_camera == camera:
        return depth
    columns = _nearest((np.arange(width) - camera.cx) * (depth_camera.fx / camera.fx)
                       + depth_camera.cx)
    rows = _nearest((np.arange(height) - camera.cy) * (depth_camera.fy / camera.fy)
                    + depth_camera.cy)
    seen = (((rows >= 0) & (rows < depth.shape[0]))[:, None]
            & ((columns >= 0) & (columns < depth.shape[1])))
    nearest = depth[rows.clip(0, depth.shape[0] - 1)[:, None],
                    columns.clip(0, depth.shape[1] - 1)]
    return np.where(seen, nearest, np.float32(np.nan))


def _nearest(pixels):
    return np.floor(pixels + 0.5).astype(int)


def _project(depth, depth_camera, camera, transform):
    v, u = np.nonzero(np.isfinite(depth))
    z = depth[v, u].astype(np.float64)
    points = np.stack(((u - depth_camera.cx) / depth_camera.fx * z,
                       (v - depth_camera.cy) / depth_camera.fy * z, z))
    x, y, z = transform[:3, :3] @ points + transform[:3, 3:]
    x, y, z = x[z > 0], y[z > 0], z[z > 0]
    u, v = _nearest(x / z * camera.fx + camera.cx), _nearest(y / z * camera.fy + camera.cy)
    seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    registered = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(registered, (v[seen], u[seen]), z[seen].astype(np.float32))
    registered[np.isinf(registered)] = np.nan
    return registered


# --- a recording --------------------------------------------------------------------------

class Topic(NamedTuple):
    """A topic of a recording. kind: a key of ``KIND_NAMES``, or ``damaged``; type: a message of
    sensor_msgs; held: how many messages.
    """

    name: str
    kind: str
    type: str
    held: int


class Message(NamedTuple):
    """Where a message is: the stamp in its header, when it was recorded (both ns)."""

    stamp: int
    time: int


class Recording:
    """A rosbag2 recording: its image topics and camera infos, and their messages.

    path: a folder with metadata.yaml, an .mcap or a .db3 file. ``topics``: Topic by name.
    It is opened once in each process (after a fork, or unpickled, a second time).
    Raises OSError, one sentence, where it can't be read.
    """

    def __init__(self, path):
        self.path = Path(path).expanduser()
        self._process = self._reader = self._types = None
        self.topics = {}
        kinds = {}
        for connection in self._connections():
            name, kind = connection.topic, TYPES[connection.msgtype]
            if name not in kinds:
                kinds[name] = self._kind(name, kind)
            held = connection.msgcount + (self.topics[name].held if name in self.topics else 0)
            self.topics[name] = Topic(name, kinds[name], kind, held)

    def __getstate__(self):
        return {**self.__dict__, '_process': None, '_reader': None, '_types': None}

    def close(self):
        """Give the file back."""
        if self._reader and self._process == os.getpid():
            self._reader.close()
        self._process = self._reader = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _open(self):
        if self._process == os.getpid():
            return self._reader
        path = self.path
        if not path.exists():
            raise OSError(f'{path}: there is no such file or folder; check the path')
        if path.is_dir() and not (path / 'metadata.yaml').is_file():
            raise OSError(f'{path} has no metadata.yaml: run `ros2 bag reindex {path}`, or name '
                          'an .mcap or .db3 file instead of the folder')
        if path.is_file() and path.suffix not in ('.mcap', '.db3'):
            raise OSError(f'{path} is no recording: name a rosbag2 folder, an .mcap or a .db3 '
                          'file')
        for log in path.glob('*.db3-wal') if path.is_dir() else [Path(f'{path}-wal')]:
            if log.is_file() and log.stat().st_size:
                database = log.with_name(log.name.removesuffix('-wal'))
                raise OSError(f'{database} was not closed, its last messages lie in {log.name}: '
                              f"run `sqlite3 {database} 'PRAGMA wal_checkpoint(TRUNCATE)'`")
        try:
            from rosbags.rosbag2 import Reader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise OSError(f'{path} is read by rosbags, which is not installed: '
                          "pip install 'rosbags>=0.11'") from error
        with self._trouble(Reader):
            reader = Reader(path)
            reader.open()
        if not reader.message_count:
            reader.close()
            raise OSError(f'{path} holds no message: record it again')
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._reader, self._process = reader, os.getpid()
        return reader

    @contextmanager
    def _trouble(self, reader=None):
        """What rosbags raises for a broken file, some of it by accident, as one OSError.

        reader: rosbags' class, while the recording is being opened.
        """
        try:
            yield
        except PermissionError:
            raise
        except Exception as error:
            text = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
            raise OSError(f'{self.path} is truncated or damaged ({text}): '
                          + self._mend(reader)) from error

    def _mend(self, reader):
        files = [self.path]
        if self.path.is_dir():
            files = sorted((*self.path.glob('*.mcap'), *self.path.glob('*.db3')))
            broken = [file for file in files if reader and not _opens(reader, file)]
            if not files or (reader and not broken):  # then metadata.yaml is to blame
                return f'run `ros2 bag reindex {self.path}`'
            files = broken or files
        if not files[0].stat().st_size:
            return 'copy it again, the file is empty'
        if files[0].suffix == '.mcap':
            return f'`mcap recover {files[0]} -o mended.mcap` saves what is whole'
        return f'`sqlite3 {files[0]} .recover | sqlite3 mended.db3` saves what is whole'

    def _connections(self, *names):
        return [connection for connection in self._open().connections
                if connection.msgtype in TYPES and (not names or connection.topic in names)]

    def _kind(self, name, kind):
        if kind == 'CameraInfo':
            return 'camera_info'
        found = 'image'
        for topic, _, raw in self.messages(name):  # by the first that can be read
            try:
                return 'depth' if is_depth(self._message(topic, raw)) else 'image'
            except OSError:
                found = 'damaged'
        return found

    def messages(self, *names, time=None):
        """Messages of these topics as recorded: yields (topic name, Message, bytes).

        time: only those recorded at this moment (ns).
        """
        connections = self._connections(*names)
        if not connections:
            return  # to rosbags, none would mean all
        with self._trouble():
            messages = iter(self._open().messages(
                connections, time, None if time is None else time + 1))
        while True:
            with self._trouble():
                got = next(messages, None)
            if got is None:
                return
            connection, recorded, raw = got
            if len(raw) < 12 or raw[0] or raw[1] > 11:
                raise OSError(f'{self.path}: a message on {connection.topic} is not CDR; where '
                              'messages are compressed one by one, name the folder instead of '
                              'the file')
            # CDR: 4 bytes of encapsulation, then the header's stamp
            seconds, nanoseconds = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
            yield (connection.topic,
                   Message(seconds * 1_000_000_000 + nanoseconds, recorded), raw)

    def _message(self, name, raw):
        kind = next(c.msgtype for c in self._connections(name))
        try:
            return self._types.deserialize_cdr(raw, kind)
        except Exception as error:
            raise OSError(f'{self.path}: a message on {name} is damaged '
                          f'({reason(error)})') from error

    def read(self, name, message):
        """The bytes of one message. Raises OSError where it isn't there."""
        for _, found, raw in self.messages(name, time=message.time):
            if found == message:
                return raw
        raise OSError(f'{self.path}: the message on {name} at {message.stamp / 1e9:.3f} s is '
                      'gone: has the file changed?')

    def decode(self, name, raw):
        """A message → uint8 H×W×3 RGB, or of a depth topic float32 H×W metres, NaN: unknown.

        Raises OSError naming the topic.
        """
        topic, message = self.topics[name], self._message(name, raw)
        try:
            if topic.kind == 'depth':
                return (image_to_depth if topic.type == 'Image' else compressed_to_depth)(message)
            if topic.type == 'CompressedImage':
                return compressed_to_rgb(message)
            return pixels_to_rgb(image_pixels(message), message.encoding)
        except ValueError as error:
            raise OSError(f'{self.path}: {name}: {error}') from error

    def camera_info(self, name):
        """The first CameraInfo on a topic; None where there is none."""
        if name not in self.topics:
            return None
        return next((self._message(name, raw) for _, _, raw in self.messages(name)), None)

    def choose(self, kind, wanted, option, besides=()):
        """The topic of a kind: the one wanted, or else the only one there is.

        besides: topics that are meant only where wanted. Raises OSError that lists what there
        is and names the option of the command line that chooses.
        """
        found = [t for t in self.topics.values() if t.held and (
            t.name == wanted if wanted else t.kind == kind and t.name not in besides)]
        if len(found) == 1 and found[0].kind == kind:
            return found[0].name
        what = KIND_NAMES[kind]
        if wanted:
            reason = (f'{wanted} holds {KIND_NAMES.get(found[0].kind, "damaged messages")}, not '
                      f'{what}' if found else
                      f'no {"camera infos" if kind == "camera_info" else "images"} on {wanted}')
        else:
            reason = (f'{len(found)} topics hold {what}: name one with {option}' if found else
                      f'no topic holds {what}')
        listed = ', '.join(f'{t.name} ({t.kind}) {t.held} × {t.type}'
                           for t in self.topics.values())
        raise OSError(f'{self.path}: {reason}. In it: {listed or "no image topics"}')


def _opens(reader, file):
    try:
        with reader(file):
            return True
    except Exception:
        return False


# --- pairs of frames ----------------------------------------------------------------------

class _Camera:
    """The camera of an image topic: undistorts its frames, knows their intrinsics."""

    def __init__(self, recording, topic, info_topic, option):
        compressed = recording.topics[topic].type == 'CompressedImage'
        base, _, last = topic.rpartition('/')
        if compressed and last in ('compressed', 'compressedDepth'):  # image_transport's names
            base, _, last = base.rpartition('/')
        if info_topic:
            info_topic = recording.choose('camera_info', info_topic, option)
        self.info_topic = info_topic or f'{base}/camera_info'
        self._info = recording.camera_info(self.info_topic)
        self._rectified = 'rect' in last
        self._known = {}
        self.reason = '' if self._info else f'nothing is on {self.info_topic}'

    def at(self, width, height):
        """(Intrinsics or None, Rectification or None) of a frame of this size."""
        if (width, height) not in self._known:
            intrinsics = rectification = None
            try:
                if self._info and not self._rectified:
                    rectification = rectification_from_camera_info(self._info, width, height)
                if self._info:
                    intrinsics = rectification.rectified if rectification else (
                        intrinsics_from_camera_info(self._info, width, height, self._rectified))
            except ValueError as error:
                self.reason = f'{self.info_topic} will not do: {error}'
            self._known[width, height] = intrinsics, rectification
        return self._known[width, height]

    def rotation(self, rectification):
        """What rectifying has turned the camera by, 3×3."""
        turn = np.array(self._info.r, np.float64).reshape(3, 3) if rectification else np.eye(3)
        return turn if turn.any() else np.eye(3)


class Pair(NamedTuple):
    """Two frames of one moment.

    stamp: ns, the seen frame's. seen: uint8 H×W×3 RGB, undistorted, or where a depth topic is
    scored float32 H×W metres. truth: float32 H×W metres in the pixels of `seen`, NaN where
    unknown. camera: Intrinsics of both, or None.
    """

    stamp: int
    seen: np.ndarray
    truth: np.ndarray
    camera: Intrinsics | None


class PairedRecording:
    """Colour frames of a recording, each with its true depth: ``len``, iteration, :meth:`read`.

    image, depth, camera_info, depth_camera_info: topics; found where there is one of a kind,
    camera infos beside their images (``<namespace>/camera_info``). predicted: a depth topic
    that takes the place of the colour images. slop: the most that the stamps of a pair may
    differ, seconds. Iteration streams; frames that can't be decoded are left out and said in
    ``damaged``. Raises OSError, one sentence, for what is missing, and where no stamps meet.
    """

    def __init__(self, path, image=None, depth=None, camera_info=None, depth_camera_info=None,
                 predicted=None, slop=SLOP):
        self.recording = recording = Recording(path)
        self.path, self.damaged = recording.path, []
        self.seen = (recording.choose('depth', predicted, '--predicted') if predicted else
                     recording.choose('image', image, '--image'))
        self.truth = recording.choose('depth', depth, '--depth', besides=(self.seen,))
        if self.seen == self.truth:
            raise OSError(f'{self.path}: {self.seen} would be compared with itself: name another '
                          'topic with --depth')
        self._cameras = (
            _Camera(recording, self.seen, camera_info, '--camera-info'),
            _Camera(recording, self.truth, depth_camera_info, '--depth-camera-info'))
        stamps = {self.seen: [], self.truth: []}
        for topic, message, _ in recording.messages(self.seen, self.truth):
            stamps[topic].append(message)
        self._stamps = [stamps[self.seen], stamps[self.truth]]
        for topic, found in stamps.items():
            if not found:
                raise OSError(f'{self.path}: {recording.topics[topic].held} messages of {topic} '
                              'are listed, none is there: record it again')
            if not any(message.stamp for message in found):
                raise OSError(f'{self.path}: the headers on {topic} carry no stamp, so that '
                              'nothing can be paired: have its driver fill them')
        self.pairs = pair_stamps(*([m.stamp for m in found] for found in self._stamps),
                                 round(slop * 1e9))
        if not self.pairs:
            spans = [f'{topic} runs from {min(found).stamp / 1e9:.3f} to '
                     f'{max(found).stamp / 1e9:.3f} s' for topic, found in stamps.items()]
            raise OSError(f'{self.path}: no frame on {self.seen} is within {slop:g} s of one on '
                          f'{self.truth} ({"; ".join(spans)}): allow more (evaluate_bag: --slop, '
                          'in ms), or set the clocks')

    def __len__(self):
        return len(self.pairs)

    def stamp(self, i):
        """ns, of pair i."""
        return self._stamps[0][self.pairs[i][0]].stamp

    def __iter__(self):
        place = {(topic, number): (i, side) for i, pair in enumerate(self.pairs)
                 for side, (topic, number) in enumerate(zip((self.seen, self.truth), pair))}
        counts, waiting, following = {self.seen: 0, self.truth: 0}, {}, 0
        for topic, _, raw in self.recording.messages(self.seen, self.truth):
            key = place.get((topic, counts[topic]))
            counts[topic] += 1
            if key:
                waiting[key] = raw
            while (following, 0) in waiting and (following, 1) in waiting:
                raws = waiting.pop((following, 0)), waiting.pop((following, 1))
                following += 1
                try:
                    pair = self._pair(following - 1, *raws)
                except OSError as error:
                    self.damaged.append(str(error))
                    continue
                yield pair

    def read(self, i):
        """Pair i. Raises OSError where it can't be decoded."""
        return self._pair(i, *(self.recording.read(topic, stamps[number]) for topic, stamps, number
                               in zip((self.seen, self.truth), self._stamps, self.pairs[i])))

    def _pair(self, i, seen, truth):
        seen = self.recording.decode(self.seen, seen)
        truth = self.recording.decode(self.truth, truth)
        height, width = seen.shape[:2]
        camera, rectification = self._cameras[0].at(width, height)
        depth_camera, depth_rectification = self._cameras[1].at(*truth.shape[::-1])
        if depth_rectification:
            truth = depth_rectification.apply_depth(truth)
        turn = (self._cameras[0].rotation(rectification)
                @ self._cameras[1].rotation(depth_rectification).T)
        transform = np.eye(4)
        transform[:3, :3] = turn
        truth = register_depth(truth, width, height, depth_camera, camera,
                               None if np.allclose(turn, np.eye(3)) else transform)
        if rectification:
            seen = (rectification.apply(seen) if seen.ndim == 3 else
                    rectification.apply_depth(seen))
            truth = np.where(rectification.unseen, np.float32(np.nan), truth)
        return Pair(self.stamp(i), seen, truth, camera)

    @property
    def without_camera(self):
        """Why the camera's focal length is not known; empty where it is, or no frame was read."""
        return self._cameras[0].reason
