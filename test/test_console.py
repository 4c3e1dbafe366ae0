"""Output on terminals that lack a character, and errors about such names."""

import io
import json
import os
import sys

import pytest

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.errors import printable, reason


def test_what_is_said_of_a_name_can_be_logged():
    """Rclpy takes UTF-8 alone."""
    name = os.fsdecode(b'/a/caf\xe9.png')
    assert reason(FileNotFoundError(2, 'No such file', name)) == '/a/caf\\xe9.png: No such file'
    assert reason(OSError(f'{name} is no image')) == '/a/caf\\xe9.png is no image'
    assert printable('δ1 \ud83d') == 'δ1 \\ud83d'
    with pytest.raises(ValueError, match='surrogates') as raised:
        name.encode()
    assert reason(raised.value) == (
        '/a/caf\\xe9.png is not UTF-8; give the file and its folders other names')


def test_figures_are_kept_where_the_terminal_lacks_a_sign(tmp_path, monkeypatch):
    """Under Latin-1 an hour's figures were lost at the δ."""
    from small_recordings import CAMERA, predict, recording, write

    from hybrid_depth_ros.virtual_room import Room
    room = Room(1)
    path = tmp_path / 'bag'
    write(path, recording([room.render(CAMERA, room.camera_pose(0.0))] * 2))
    terminal = io.TextIOWrapper(io.BytesIO(), 'latin-1')
    monkeypatch.setattr(sys, 'stdout', terminal)
    assert evaluate_bag.main([str(path), '--json', str(tmp_path / 'out.json'), '--csv',
                              str(tmp_path / 'out.csv')], predict) == 0
    terminal.flush()
    assert b'\\u03b41' in terminal.buffer.getvalue()
    assert json.loads((tmp_path / 'out.json').read_text())['frames'] == 2
    assert len((tmp_path / 'out.csv').read_text().splitlines()) == 3


def test_a_print_that_fails_leaves_whole_files(tmp_path, monkeypatch):
    """The JSON had 0 bytes. And what fails half-way keeps its start."""
    from small_recordings import CAMERA, predict, recording, write

    from hybrid_depth_ros.metrics import RecordingScores
    from hybrid_depth_ros.virtual_room import Room
    room = Room(1)
    path, out = tmp_path / 'bag', tmp_path / 'out.json'
    write(path, recording([room.render(CAMERA, room.camera_pose(0.0))] * 3))

    def fail(*_):
        raise OSError('the terminal is gone')
    monkeypatch.setattr(RecordingScores, 'table', fail)
    arguments = [str(path), '--json', str(out), '--csv', str(tmp_path / 'out.csv')]
    with pytest.raises(SystemExit, match='the terminal is gone'):
        evaluate_bag.main(arguments, predict)
    assert json.loads(out.read_text())['frames'] == 3
    monkeypatch.undo()
    seen = []

    def tire(rgb, fx=None):
        seen.append(fx)
        if len(seen) == 3:
            raise ValueError('no such instruction')
        return predict(rgb, fx)
    with pytest.raises(SystemExit, match='no such instruction'):
        evaluate_bag.main(arguments, tire)
    assert json.loads(out.read_text())['frames'] == 2
    assert len((tmp_path / 'out.csv').read_text().splitlines()) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ['bag', 'out.csv', 'out.json']
