"""The store: written, gone on with, read."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from rgbd_files import write_labeled, write_sync

from train import prepare
from train.datasets import open_dataset
from train.datasets.memmap_store import MemmapStore
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import read_checked


def test_prepare_and_go_on(raw_scenes, tmp_path, monkeypatch, capsys):
    scenes = tmp_path / 'raw'
    shutil.copytree(raw_scenes, scenes)
    broken = sorted(scenes.glob('office_0002a/d-*.pgm'))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    dataset, read = RawScenes(scenes), RawScenes.read

    def stop_at_second(self, i):
        if i == 1:
            raise KeyboardInterrupt
        return read(self, i)
    monkeypatch.setattr(RawScenes, 'read', stop_at_second)
    with pytest.raises(SystemExit, match='goes on'):
        prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store'), '--workers', '1'])
    assert not (tmp_path / 'store').exists()
    done = []
    monkeypatch.setattr(RawScenes, 'read', lambda self, i: (done.append(i), read(self, i))[1])
    prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store'), '--workers', '1'])
    assert done == [1, 2, 3]
    out, err = capsys.readouterr()
    assert '3 pairs, 1 left out' in out
    assert broken.name in err
    store = open_dataset(tmp_path / 'store')
    assert isinstance(store, MemmapStore)
    assert [store.name(i) for i in range(3)] == [dataset.name(i) for i in (0, 1, 3)]
    rgb, depth = prepare.resize_pair(*dataset.read(3), 352, 264)
    assert np.array_equal(store.read(2)[0], rgb)
    assert np.abs(store.read(2)[1] - depth).max() < 0.00051
    assert sorted(file.name for file in (tmp_path / 'store').iterdir()) == [
        'depth.npy', 'rgb.npy', 'store.json']
    assert not (tmp_path / 'store.partial').exists()
    with pytest.raises(SystemExit, match='is there already'):
        prepare.main(['--data', str(scenes), '--out', str(tmp_path / 'store')])


def test_prepare_that_is_told_to_end_while_its_processes_start(frames, tmp_path):
    """Each process that was importing numpy showed a traceback."""
    write_sync(tmp_path / 'sync', frames[:1] * 64)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, '-m', 'train.prepare', '--data', str(tmp_path / 'sync'), '--out',
         str(tmp_path / 'store'), '--size', '64x48', '--workers', '2'], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not (workers := children(process.pid)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pid in (process.pid, *workers):  # as a terminal does
        os.kill(int(pid), signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert 'stopped; the same command goes on from here' in printed
    assert 'Traceback' not in printed


def children(pid):
    """Processes of multiprocessing that a process has started."""
    mine = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [child for child in mine if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes()]


def test_prepare_by_two_processes(frames, tmp_path):
    write_sync(tmp_path / 'sync', frames * 30)
    prepare.main(['--data', str(tmp_path / 'sync'), '--out', str(tmp_path / 'store'),
                  '--size', '64x48', '--count', '80', '--workers', '2'])
    store, whole = open_dataset(tmp_path / 'store'), open_dataset(tmp_path / 'sync')
    assert len(store) == 80
    numbers = [store.number(i) for i in range(80)]
    assert (numbers[0], numbers[-1]) == (0, 89)
    assert set(np.diff(numbers)) <= {1, 2}
    rgb, depth = prepare.resize_pair(*whole.read(numbers[70]), 64, 48)
    assert np.array_equal(store.read(70)[0], rgb)
    assert np.abs(store.read(70)[1] - depth).max() < 0.00051
    index = json.loads((tmp_path / 'store' / 'store.json').read_text())
    index['names'].pop()
    (tmp_path / 'store' / 'store.json').write_text(json.dumps(index))
    with pytest.raises(OSError, match=r'run train\.prepare'):
        open_dataset(tmp_path / 'store')


def test_scenes_of_test_images_are_left_out(frames, raw_scenes, tmp_path):
    write_labeled(tmp_path / 'nyu_depth_v2_labeled.mat', frames,
                  ['bedroom_0001', 'office_0002', 'kitchen_0001'])
    scipy.io.savemat(tmp_path / 'splits.mat', {'trainNdxs': [[1], [3]], 'testNdxs': [[2]]})
    left = prepare.without_test_scenes(raw_scenes, tmp_path / 'nyu_depth_v2_labeled.mat')
    assert {left.name(i).split('/')[0] for i in range(len(left))} == {'bedroom_0001'}


def test_labeled_is_not_ignored(tree, tmp_path):
    with pytest.raises(SystemExit, match='--labeled is for raw scenes'):
        prepare.main(['--data', str(tree), '--out', str(tmp_path / 's'), '--labeled', 'no.mat'])


def test_images_of_another_aspect_are_not_squeezed(tmp_path, capsys):
    """16:9 was squeezed to 4:3, with one focal length for both directions."""
    for i, (width, height) in enumerate(((64, 36), (128, 72), (64, 48))):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((height, width, 3), 60, np.uint8))
        cv2.imwrite(str(tmp_path / f'd{i}.png'), np.full((height, width), 2000, np.uint16))
    (tmp_path / 'pairs.csv').write_text('image,depth,fx\n' + ''.join(
        f'{i}.png,d{i}.png,{fx}\n' for i, fx in enumerate((50, 100, 50))))
    prepare.main(['--data', str(tmp_path / 'pairs.csv'), '--out', str(tmp_path / 'store'),
                  '--workers', '1'])
    data = open_dataset(tmp_path / 'store')
    assert [read_checked(data, i)[0].shape for i in range(len(data))] == [(198, 352, 3)] * 2
    assert [data.focal(i) for i in range(2)] == pytest.approx([50 / 64] * 2)
    assert '2.png is 64×48, the store 352×198' in capsys.readouterr().err
