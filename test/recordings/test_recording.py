"""Recordings that are cut, damaged, compressed or none."""

import os
import struct

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from small_recordings import (
    COUNT,
    DEPTH,
    IMAGE,
    START,
    STEP,
    STORE,
    compressed,
    png,
    recording,
    write,
)

from hybrid_depth_ros.recordings.pairs import PairedRecording
from hybrid_depth_ros.recordings.recording import Recording


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


@pytest.mark.parametrize('share', [0, 0.00001, 0.3, 0.999])
@pytest.mark.parametrize(('plugin', 'file', 'mend'), [
    (StoragePlugin.MCAP, 'bag.mcap', r'ros2 bag reindex \S+bag` .*mcap recover'),
    (StoragePlugin.SQLITE3, 'bag.db3', r'sqlite3 \S+bag\.db3 \.recover')])
def test_truncated(frames, tmp_path, plugin, file, mend, share):
    path = write(tmp_path / 'bag', recording(frames), plugin)
    cut(path / file, share)
    for named in (path, path / file):
        with pytest.raises(OSError, match='copy it again' if share == 0 else mend) as raised:
            PairedRecording(named)
        assert str(named) in str(raised.value)
        assert '\n' not in str(raised.value)


def test_an_mcap_file_without_an_index(frames, tmp_path):
    file = write(tmp_path / 'bag', recording(frames)) / 'bag.mcap'
    data = bytearray(file.read_bytes())
    start, = struct.unpack_from('<Q', data, len(data) - 28)  # of the summary: the index
    data[-28:-12] = bytes(16)
    file.write_bytes(data[:start] + data[-37:])
    assert [pair.stamp for pair in PairedRecording(file)] == [START + i * STEP
                                                             for i in range(COUNT)]


def test_not_a_recording(frames, tmp_path):
    with pytest.raises(OSError, match='no such file or folder'):
        Recording(tmp_path / 'bag')
    path = write(tmp_path / 'bag', recording(frames))
    (path / 'metadata.yaml').write_text('nothing')
    with pytest.raises(OSError, match=r'bag is .*damaged.*ros2 bag reindex'):
        Recording(path)
    (path / 'metadata.yaml').unlink()
    with pytest.raises(OSError, match=r'no metadata\.yaml: run `ros2 bag reindex'):
        Recording(path)
    assert len(PairedRecording(path / 'bag.mcap')) == COUNT
    (tmp_path / 'bag.txt').touch()
    with pytest.raises(OSError, match=r'bag\.txt is no recording'):
        Recording(tmp_path / 'bag.txt')
    with pytest.raises(OSError, match='holds no message'):
        Recording(write(tmp_path / 'empty', []))
    (tmp_path / 'a.db3').touch()
    (tmp_path / 'a.db3-wal').write_bytes(b'later messages')
    with pytest.raises(OSError, match='wal_checkpoint'):
        Recording(tmp_path / 'a.db3')


def test_messages_compressed_one_by_one(frames, tmp_path):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        topics = {}
        for number, (topic, message) in enumerate(recording(frames)):
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], START + number, STORE.serialize_cdr(message, kind))
    assert len(PairedRecording(tmp_path / 'bag')) == COUNT
    with pytest.raises(OSError, match='name the folder instead of the file'):
        PairedRecording(tmp_path / 'bag' / 'bag.db3')


def test_a_name_that_is_not_utf8_is_no_damage(frames, tmp_path):
    """sqlite3 refuses a name that is not UTF-8; that was reported as a damaged file."""
    path = tmp_path / os.fsdecode(b'caf\xe9')
    write(tmp_path / 'bag', recording(frames[:1]), StoragePlugin.SQLITE3).rename(path)
    with pytest.raises(OSError, match='is not UTF-8, which sqlite3 wants'):
        PairedRecording(path)
    write(tmp_path / 'bag', recording(frames[:1])).rename(path.with_name(path.name + '2'))
    assert len(PairedRecording(path.with_name(path.name + '2'))) == 1


def test_what_the_depth_node_makes_beside_depth_is_no_camera_s(frames, tmp_path):
    """A recording of all topics had two cameras and three depth images."""
    messages = []
    for topic, message in recording(frames):
        messages.append((topic, message))
        if topic == IMAGE:
            messages.append(('/camera/depth/image_color/compressed', compressed(
                START, 'rgb8; jpeg compressed bgr8', png(np.zeros((4, 4, 3), np.uint8)))))
        if topic == DEPTH:
            messages.append(('/camera/depth/uncertainty', message))
    pairs = PairedRecording(write(tmp_path / 'bag', messages))
    assert (pairs.image_topic, pairs.truth_topic) == (IMAGE, DEPTH)
    assert len(pairs) == COUNT
    named = PairedRecording(pairs.path, depth='/camera/depth/uncertainty')
    assert named.truth_topic == '/camera/depth/uncertainty'
