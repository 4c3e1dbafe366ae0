"""Samples on their way from the datasets to the network."""

import multiprocessing
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from train import interrupts
from train.augment import augment
from train.configuration import AugmentationConfig
from train.data import (
    TrainingSamples,
    fit_workers,
    loaded_batches,
    make_loader,
    normalise,
    to_input,
)
from train.datasets.nyu import SyncTree
from train.datasets.pairs import RgbdDataset


def test_only_other_sets_take_on_the_first_ones_colours():
    class Grey(RgbdDataset):
        def __init__(self, level):
            self.level = level

        def __len__(self):
            return 2

        def read(self, i):
            return (np.full((264, 352, 3), self.level, np.uint8),
                    np.full((264, 352), 2, np.float32))
    plain = AugmentationConfig(scale=(1.0, 1.0), rotation=0.0, colour=(1, 1), flip=0.0)

    def levels(style):
        samples = TrainingSamples([Grey(200), Grey(60)], [1, 1], 20, 0, plain, style=style)
        return ([samples.locate(n)[0] for n in range(20)],
                [samples[n].sample.rgb.mean() for n in range(20)])
    sets, without = levels(0.0)
    assert without == [(200, 60)[which] for which in sets] and set(sets) == {0, 1}
    _, restyled = levels(1.0)
    for which, level in zip(sets, restyled):
        assert level == 200 if which == 0 else 60 <= level <= 200
    assert restyled == levels(1.0)[1] and np.ptp([level for which, level in zip(
        sets, restyled) if which == 1]) > 40  # by chance more or less of it, the same each time


def test_a_longer_lens_learns_the_depth_of_nyus(tree):
    """Targets are what NYU's camera would see: the inverse of the predictor's correction."""
    class LongLens(SyncTree):
        def focal(self, i):
            return 2 * super().focal(i)
    options = AugmentationConfig(scale=(1.0, 1.0), rotation=0.0)
    near, far = (TrainingSamples([kind(tree)], [1], 4, 0, options)[0].sample.depth
                 for kind in (LongLens, SyncTree))
    np.testing.assert_allclose(near, far / 2, rtol=1e-6)


@pytest.mark.parametrize('more', [{}, {'gamma': 0.3, 'brightness': 0.3, 'contrast': 0.3,
                                       'saturation': 0.5}])
def test_images_travel_as_bytes(more):
    """The paper's colour factor is exact; other changes are rounded to half a level."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (264, 352, 3), np.uint8)
    options = AugmentationConfig(scale=(1.0, 1.0), rotation=0.0, flip=0.0, nearest=True, **more)
    rgb, gain, _ = augment(image, np.ones((264, 352), np.float32), np.random.default_rng(2),
                           options)
    assert rgb.dtype == np.uint8

    # the same draws, in plain float arithmetic
    rng = np.random.default_rng(2)
    plain = augment(image, np.ones((264, 352), np.float32), rng, AugmentationConfig(
        scale=(1.0, 1.0), rotation=0.0, flip=0.0, nearest=True, colour=(1, 1))).rgb
    rng = np.random.default_rng(2)
    rng.random(5)
    expected = plain.astype(np.float32) / 255 * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if more:
        expected = np.clip(expected, 0, 1) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
        mean = expected.mean()
        expected = (expected - mean) * (1 + rng.uniform(-0.3, 0.3)) + mean
        expected = expected * (1 + rng.uniform(-0.3, 0.3))
        luma = (expected @ np.array([0.299, 0.587, 0.114]))[..., None]
        rng.random()
        expected = luma + (expected - luma) * (1 + rng.uniform(-0.5, 0.5))
    expected = normalise(np.clip(expected, 0, 1).astype(np.float32))
    got = to_input(torch.from_numpy(rgb)[None], torch.from_numpy(gain)[None])
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(got[0].numpy() - expected).max() <= (0.51 / 255 / 0.224 if more else 0)


def test_loading_processes_hold_no_lock(tree, tmp_path):
    samples = TrainingSamples([SyncTree(tree)], [1], 8, 0, AugmentationConfig())
    out = tmp_path / 'out'
    with interrupts.lock_folder(out) as handle:
        with pytest.raises(OSError, match='another training'), interrupts.lock_folder(out):
            pass
        loader = iter(make_loader(samples, range(8), 1, workers=1, handles=[handle]))
        next(loader)
    with interrupts.lock_folder(out):  # that process lives, as after a SIGKILL of this one
        next(loader)


def test_the_next_readable_pair_takes_the_place_of_a_broken_one(tree):
    """Whichever process comes to it first: the sample is the same."""
    for name in ('rgb_00002.jpg', 'sync_depth_00003.png'):
        (tree / name).write_bytes((tree / name).read_bytes()[:-2000])
    dataset, options = SyncTree(tree), AugmentationConfig(scale=(1.0, 1.0), rotation=0.0)
    samples = TrainingSamples([dataset], [1], 30, 0, options)
    order = samples.order(0, 0)
    at = next(n for n in range(7) if 'rgb_00002' in samples.name(n))
    broken = {i for i in range(8) if re.search('_0000[23]', dataset.name(i))}
    heir = next(i for i in np.roll(order, -at) if i not in broken)
    expected = augment(*dataset.read(heir), np.random.default_rng([0, 2, at]), options)
    for _ in range(2):
        sample, skipped = samples[at]
        assert np.array_equal(sample.rgb, expected.rgb)
        assert np.array_equal(sample.depth, expected.depth)
        assert 'rgb_00002' in skipped[0]


class NoRoom(RgbdDataset):
    """Whatever is read, there is no shared memory for it."""

    def __len__(self):
        return 4

    def name(self, i):
        return f'pair {i}'

    def read(self, i):
        raise RuntimeError('unable to allocate shared memory(shm) for file </torch_1>: '
                           'No space left on device (28)')


def test_full_shared_memory_ends_with_a_sentence():
    """In docker's 64 MB: a traceback, then a process that waited for others and took no Ctrl-C."""
    samples = TrainingSamples([NoRoom()], [1], 8, 0, AugmentationConfig())
    before = set(multiprocessing.active_children())
    with (pytest.raises(OSError, match=r'/dev/shm is full: start docker with --shm-size=1g, or'),
          loaded_batches(make_loader(samples, range(8), 2, workers=2)) as batches):
        next(batches)
    assert set(multiprocessing.active_children()) <= before


def test_loading_processes_are_no_more_than_shared_memory_holds(monkeypatch):
    """Four of them for batches of 16 need 110 MB; docker gives 64."""
    free = SimpleNamespace(free=64e6)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: free)
    said = []
    assert fit_workers(1, 16, said.append) == 1 and not said
    assert fit_workers(4, 16, said.append) == 2
    assert '/dev/shm has 64 MB free, room for 2 of 4 loading processes' in said[0]
    assert '--shm-size' in said[0]
    assert fit_workers(4, 16, said.append, processes=4) == 0
    assert 'the training process loads too' in said[1]
    free.free = 24e9
    assert fit_workers(4, 16, said.append) == 4 and len(said) == 2
