"""Files whose names are not UTF-8 or have a ~, results written whole, the cache folder."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.arguments import user_path
from hybrid_depth_ros.files import cache_folder, check_writable, expand_user, result_file
from hybrid_depth_ros.sources import open_source
from hybrid_depth_ros.weights import DATA, load_network, weights_path

PICTURE = np.full((48, 64, 3), 100, np.uint8)


def write_video(path, frames=5):
    """A Motion-JPEG film in an .avi at `path`, a str."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 12.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()


def test_names_that_are_not_utf8_are_read(tmp_path):
    """OpenCV ended in a segmentation fault.

    In a process of its own, which may.
    """
    folder = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9')
    os.mkdir(folder)
    pictures = Path(folder) / os.fsdecode(b'\xff')
    pictures.mkdir()
    (pictures / os.fsdecode(b'\xe9.png')).write_bytes(cv2.imencode('.png', PICTURE)[1].tobytes())
    write_video(str(tmp_path / 'plain.avi'))
    (tmp_path / 'plain.avi').rename(Path(folder) / os.fsdecode(b'v\xe9.avi'))
    weights = Path(folder) / 'w.safetensors'
    weights.write_bytes((DATA / 'lite-nyu.safetensors').read_bytes())
    code = '''
import os, sys
from pathlib import Path
from hybrid_depth_ros.sources import open_source
from hybrid_depth_ros.image_files import read_pixels
folder = Path(sys.argv[1])
for name in (b'\\xff', b'\\xff/\\xe9.png', b'v\\xe9.avi'):
    source = open_source(str(folder / os.fsdecode(name)))
    assert all(source.read().rgb.shape == (48, 64, 3) for _ in range(12))
try:
    read_pixels(folder / os.fsdecode(b'v\\xe9.avi'))
except OSError as error:
    from hybrid_depth_ros.errors import explain
    explain(error).encode()
else:
    raise AssertionError
'''
    done = subprocess.run([sys.executable, '-c', code, folder], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors='replace')
    assert load_network(str(weights)).encoder_name == load_network('lite-nyu').encoder_name


def test_results_are_written_whole_or_through(tmp_path):
    path, link = tmp_path / 'a.json', tmp_path / 'link.json'
    path.write_text('old')
    check_writable(path)
    assert path.read_text() == 'old'
    with pytest.raises(KeyError), result_file(path) as partial:
        partial.write_text('half')
        raise KeyError
    assert path.read_text() == 'old'
    link.symlink_to(path)
    with result_file(link) as through:
        through.write_text('new')
    assert link.is_symlink()
    assert path.read_text() == 'new'
    os.mkfifo(tmp_path / 'pipe')
    for wrong in (tmp_path, tmp_path / 'none' / 'a.json'):
        with pytest.raises(OSError, match='directory'):
            check_writable(wrong)


def test_digits_that_are_no_numbers_in_names(tmp_path):
    """Int('²') ended the camera node."""
    for name in ('5²3.png', '5²10.png', '5²3½.png', '٣.png'):
        (tmp_path / name).write_bytes(cv2.imencode('.png', PICTURE)[1].tobytes())
    source = open_source(str(tmp_path), loop=False)
    assert [file.name for file in source._files][:2] == ['٣.png', '5²3.png']
    assert all(source.read() for _ in range(4))


def test_a_home_folder_that_is_not_known_is_named():
    """A traceback, 'Could not determine home directory'."""
    from hybrid_depth_ros.recordings.recording import Recording
    from train.datasets import open_dataset
    for opened in (expand_user, open_source, Recording, open_dataset, weights_path, user_path):
        with pytest.raises(Exception, match=r'~nobodyhere/x: no user nobodyhere is known here; '
                                            'write the path from / on'):
            opened('~nobodyhere/x')


@pytest.mark.parametrize(('name', 'said'), [
    ('', 'weights have no name'), ('.', 'is a folder'), ('/', 'is a folder')])
def test_weights_that_are_no_file(name, said):
    """PosixPath('.') has an empty name."""
    from hybrid_depth_ros.predictor import DepthPredictor
    with pytest.raises(OSError, match=said):
        DepthPredictor(name)


def test_without_a_home_it_goes_on(monkeypatch):
    """Containers with a user's number alone."""
    for name in ('HOME', 'XDG_CACHE_HOME', 'HYBRID_DEPTH_CACHE', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)

    def unknown(_):
        raise KeyError('uid not found')
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    with pytest.raises(OSError, match='set HYBRID_DEPTH_CACHE'):
        cache_folder()
    with pytest.raises(OSError, match='this user has no home folder; write the path from /'):
        expand_user('~/x')
    from hybrid_depth_ros.predictor import DepthPredictor
    assert DepthPredictor(device='cpu', runtime='openvino')(PICTURE).shape == (48, 64)
