"""A rosbag2 recording, read by rosbags: a folder, an .mcap or a .db3 file. Needs no ROS."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from hybrid_depth_ros.compressed_depth import decode_compressed_depth
from hybrid_depth_ros.encodings import (
    compressed_to_rgb,
    decode_depth_image,
    encoding_of,
    image_pixels,
    is_depth,
    pixels_to_rgb,
)
from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.stamps import header_stamp

IMAGE_MESSAGE_TYPES = {f'sensor_msgs/msg/{name}': name
                       for name in ('Image', 'CompressedImage', 'CameraInfo')}
# What anchors are taken from: read only where a topic is named.
ANCHOR_MESSAGE_TYPES = {'sensor_msgs/msg/LaserScan', 'sensor_msgs/msg/PointCloud2',
                        'sensor_msgs/msg/Range', 'tf2_msgs/msg/TFMessage',
                        'nav_msgs/msg/Odometry'}
# Of the depth node: images that are neither a camera's nor depth, taken only where they are named.
DERIVED_TOPICS = ('/depth/image_color/compressed', '/depth/uncertainty', '/depth/relative')
KIND_NAMES = {'image': 'colour images', 'depth': 'depth images', 'camera_info': 'camera infos'}


class Topic(NamedTuple):
    """A topic of a recording.

    Attributes:
        name: With its namespace.
        kind: A key of ``KIND_NAMES``, or ``damaged``.
        type: A message of sensor_msgs.
        message_count: How many messages it holds.
    """

    name: str
    kind: str
    type: str
    message_count: int


class MessageTimes(NamedTuple):
    """When a message was: the stamp in its header, and when it was recorded (both ns)."""

    stamp: int
    time: int


class Recording:
    """A rosbag2 recording: its image topics and camera infos, and their messages.

    It is opened once in each process (after a fork, or unpickled, a second time).

    Args:
        path: A folder with metadata.yaml, an .mcap or a .db3 file.

    Attributes:
        path: As given, the home folder filled in.
        topics: Topic by name.
        maximum_topics: Depth topics on which the largest whole number was met so far: it counts
            as unknown.

    Raises:
        OSError: It can't be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_user(path)
        self._process: int | None = None
        self._reader: Any = None
        self._types: Any = None
        self.topics: dict[str, Topic] = {}
        self.maximum_topics: set[str] = set()
        self._mono16_topics: set[str] = set()  # may be infrared images or depth
        kinds: dict[str, str] = {}
        for connection in self._connections():
            name, kind = connection.topic, IMAGE_MESSAGE_TYPES[connection.msgtype]
            if name not in kinds:
                kinds[name] = self._kind(name, kind)
            count = connection.msgcount + (
                self.topics[name].message_count if name in self.topics else 0)
            self.topics[name] = Topic(name, kinds[name], kind, count)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_process': None, '_reader': None, '_types': None}

    def close(self) -> None:
        """Close the file."""
        if self._reader and self._process == os.getpid():
            self._reader.close()
        self._process = self._reader = None

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        if self._process == os.getpid():
            return self._reader
        _check_path(self.path)
        path = self.path
        try:
            from rosbags.rosbag2 import Reader
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise OSError(f'{path} is read by rosbags, which is not installed: '
                          "pip install 'rosbags>=0.11'") from error
        with self._as_oserror(Reader):
            reader = Reader(path)
            reader.open()
        if not reader.message_count:
            reader.close()
            raise OSError(f'{path} holds no message: record it again')
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._reader, self._process = reader, os.getpid()
        return reader

    @contextmanager
    def _as_oserror(self, reader: Any = None) -> Iterator[None]:
        """Turns what rosbags raises for a broken file, some of it by accident, into one OSError.

        Args:
            reader: rosbags' class, while the recording is being opened.
        """
        try:
            yield
        except PermissionError:
            raise
        except UnicodeEncodeError as error:  # sqlite3 takes UTF-8 alone
            raise OSError(f'{self.path} or a file in it is not UTF-8, which sqlite3 wants; give '
                          'it another name') from error
        except Exception as error:
            text = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
            raise OSError(f'{self.path} is truncated or damaged ({text}): '
                          + self._repair_hint(reader)) from error

    def _repair_hint(self, reader: Any) -> str:
        files = [self.path]
        if self.path.is_dir():
            files = sorted((*self.path.glob('*.mcap'), *self.path.glob('*.db3')))
            broken = [file for file in files if reader and not _opens(reader, file)]
            if not files or (reader and not broken):  # then metadata.yaml is to blame
                return f'run `ros2 bag reindex {quoted(self.path)}`'
            files = broken or files
        if not files[0].stat().st_size:
            return 'copy it again, the file is empty'
        if files[0].suffix == '.mcap':
            return (f'`ros2 bag reindex {quoted(files[0].parent)}` lets ros2 bag read what is '
                    'whole, and `ros2 bag convert` writes it anew; so does, without ROS, '
                    f'`mcap recover {quoted(files[0])} -o mended.mcap` (mcap.dev)')
        return f'`sqlite3 {quoted(files[0])} .recover | sqlite3 mended.db3` saves what is whole'

    def _connections(self, *names: str) -> list[Any]:
        return [connection for connection in self._open().connections
                if (connection.topic in names and connection.msgtype in ANCHOR_MESSAGE_TYPES)
                or (connection.msgtype in IMAGE_MESSAGE_TYPES
                    and (not names or connection.topic in names))]

    def _kind(self, name: str, message_type: str) -> str:
        if message_type == 'CameraInfo':
            return 'camera_info'
        found = 'image'
        for topic, _, raw in self.messages(name):  # by the first that can be read
            try:
                message = self.message(topic, raw)
            except OSError:
                found = 'damaged'
                continue
            if is_depth(message):
                return 'depth'
            if encoding_of(message) == 'mono16':  # many a driver's name for depth in millimetres
                self._mono16_topics.add(name)
                return 'depth' if 'depth' in name.lower() else 'image'
            return 'image'
        return found

    def messages(self, *names: str,
                 time: int | None = None) -> Iterator[tuple[str, MessageTimes, bytes]]:
        """Messages of these topics as recorded.

        Args:
            names: Of the topics.
            time: Only those recorded at this moment (ns).

        Yields:
            (topic's name, MessageTimes, CDR bytes).

        Raises:
            OSError: The file is damaged.
        """
        connections = self._connections(*names)
        if not connections:
            return  # to rosbags, none would mean all
        with self._as_oserror():
            messages = iter(self._open().messages(
                connections, time, None if time is None else time + 1))
        while True:
            with self._as_oserror():
                got = next(messages, None)
            if got is None:
                return
            connection, recorded, raw = got
            if connection.msgtype.startswith('tf2_msgs/'):  # it has no header of its own
                yield connection.topic, MessageTimes(recorded, recorded), raw
                continue
            if len(raw) < 12 or raw[0] or raw[1] > 11:
                raise OSError(f'{self.path}: a message on {connection.topic} is not CDR; where '
                              'messages are compressed one by one, name the folder instead of '
                              'the file')
            yield connection.topic, MessageTimes(header_stamp(raw), recorded), raw

    def message(self, name: str, raw: bytes) -> Any:
        """A message as rosbags has it, with its fields.

        Raises:
            OSError: It is damaged; the topic is named.
        """
        kind = next(c.msgtype for c in self._connections(name))
        try:
            return self._types.deserialize_cdr(raw, kind)
        except Exception as error:
            raise OSError(f'{self.path}: a message on {name} is damaged '
                          f'({reason(error)})') from error

    def read(self, name: str, times: MessageTimes) -> bytes:
        """The bytes of one message.

        Raises:
            OSError: It isn't there.
        """
        for _, found, raw in self.messages(name, time=times.time):
            if found == times:
                return raw
        raise OSError(f'{self.path}: the message on {name} at {times.stamp / 1e9:.3f} s is '
                      'gone: has the file changed?')

    def decode(self, name: str, raw: bytes) -> npt.NDArray[Any]:
        """A message → uint8 H×W×3 RGB, or of a depth topic float32 H×W metres, NaN: unknown.

        Raises:
            OSError: It is damaged; the topic is named.
        """
        topic, message = self.topics[name], self.message(name, raw)
        try:
            if topic.kind == 'depth':
                depth, has_maximum = (decode_depth_image(message) if topic.type == 'Image' else
                                      decode_compressed_depth(message))
                if has_maximum:
                    self.maximum_topics.add(name)
                return depth
            if topic.type == 'CompressedImage':
                return compressed_to_rgb(message)
            return pixels_to_rgb(image_pixels(message), message.encoding)
        except ValueError as error:
            raise OSError(f'{self.path}: {name}: {error}') from error

    def require(self, name: str, message_type: str, option: str) -> None:
        """Raise OSError where a topic has no messages of this type of sensor_msgs.

        Args:
            name: Of the topic.
            message_type: ``LaserScan``, …
            option: Of the command line, which named the topic.
        """
        types = {connection.topic: connection.msgtype.rpartition('/')[2]
                 for connection in self._open().connections if connection.msgcount}
        if types.get(name) != message_type:
            others = ', '.join(topic for topic, other in types.items() if other == message_type)
            raise OSError(f'{self.path}: {option} {name}: ' + (
                f'that topic holds {types[name]}, not {message_type}' if name in types else
                'there is no such topic') + f'; with {message_type} in it: {others or "none"}')

    def choose_sensor(self, message_type: str, wanted: str | None, option: str) -> str:
        """The topic of a type of sensor_msgs: the one wanted, or else the only one there is.

        Args:
            message_type: ``LaserScan``, …
            wanted: A topic, or None.
            option: Of the command line, which chooses the topic.

        Raises:
            OSError: There is none, or more than one; the topics are listed.
        """
        found = sorted({connection.topic for connection in self._open().connections
                        if connection.msgcount
                        and connection.msgtype.rpartition('/')[2] == message_type})
        if wanted:
            self.require(wanted, message_type, option)
            return wanted
        if len(found) != 1:
            raise OSError(f'{self.path}: ' + (
                f'{len(found)} topics hold {message_type}: name one: {option}={found[0]} '
                f'({", ".join(found)})' if found else f'no topic holds {message_type}'))
        return found[0]

    def choose(self, kind: str, wanted: str | None, option: str,
               besides: Sequence[str] = ()) -> str:
        """The name of the topic of a kind: the one wanted, or else the only one there is.

        Args:
            kind: A key of ``KIND_NAMES``.
            wanted: A topic, or None.
            option: Of the command line, which chooses the topic.
            besides: Topics that are taken only where they are wanted.

        Raises:
            OSError: There is none, or more than one; the topics are listed.
        """
        if wanted in self._mono16_topics and kind in ('image', 'depth'):
            self.topics[wanted] = self.topics[wanted]._replace(kind=kind)
        found = [t for t in self.topics.values() if t.message_count and (
            t.name == wanted if wanted else t.kind == kind and t.name not in besides
            and not t.name.endswith(DERIVED_TOPICS))]
        if len(found) == 1 and found[0].kind == kind:
            return found[0].name
        what = KIND_NAMES[kind]
        if wanted:
            why = (f'{wanted} holds {KIND_NAMES.get(found[0].kind, "damaged messages")}, not '
                      f'{what}' if found else
                      f'no {"camera infos" if kind == "camera_info" else "images"} on {wanted}')
        else:
            why = (f'{len(found)} topics hold {what}: name one with {option}' if found else
                      f'no topic holds {what}')
        listed = ', '.join(f'{t.name} ({t.kind}) {t.message_count} × {t.type}'
                           for t in self.topics.values())
        raise OSError(f'{self.path}: {why}. In it: {listed or "no image topics"}')


def _check_path(path: Path) -> None:
    """Raise OSError, with what to do, where a path can't be a recording that is whole."""
    if not path.exists():
        raise OSError(f'{path}: there is no such file or folder; check the path')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        raise OSError(f'{path} has no metadata.yaml: run `ros2 bag reindex {quoted(path)}`, or '
                      'name an .mcap or .db3 file instead of the folder')
    if path.is_file() and path.suffix == '.bag':
        raise OSError(f'{path} is of ROS 1: convert it by rosbags-convert --src {quoted(path)} '
                      f'--dst {quoted(path.with_suffix(""))}, which comes with rosbags')
    if path.is_file() and path.name.endswith('.zstd'):
        raise OSError(f'{path} is compressed as a whole: name its folder with metadata.yaml, '
                      f'or unpack it by zstd -d {quoted(path)} -o {quoted(path.with_suffix(""))}')
    if path.is_file() and path.suffix not in ('.mcap', '.db3'):
        raise OSError(f'{path} is no recording: name a rosbag2 folder, an .mcap or a .db3 '
                      'file')
    for log in path.glob('*.db3-wal') if path.is_dir() else [Path(f'{path}-wal')]:
        if log.is_file() and log.stat().st_size:
            database = log.with_name(log.name.removesuffix('-wal'))
            raise OSError(f'{database} was not closed, its last messages lie in {log.name}: '
                          f"run `sqlite3 {quoted(database)} 'PRAGMA wal_checkpoint(TRUNCATE)'`")


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def _opens(reader: Any, file: Path) -> bool:
    try:
        with reader(file):
            return True
    except Exception:
        return False
