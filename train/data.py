"""Training samples on their way to the network.

Pictures stay uint8, rows × columns × channels, on their way from the loading process to the
network's device, a quarter of the bytes; :func:`to_input` makes the network's input there.
"""

import os
import signal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.network import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from train.augment import augment, colour_statistics, paste_window, to_uint8, transfer_colours
from train.datasets.pairs import read_checked


def normalise(rgb):
    """RGB in 0…1, … × 3 → float32 3 × …, the network's input."""
    rgb = (rgb - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return np.ascontiguousarray(np.moveaxis(rgb, -1, 0), np.float32)


def to_input(rgb, gain):
    """Samples' uint8 N×H×W×3 and gain N×3 → the network's input, on the device they are on.

    float32 N×3×H×W, channels last in memory as the uint8 picture was.
    """
    mean, std = (torch.tensor(values, device=rgb.device).view(3, 1, 1)
                 for values in (IMAGENET_MEAN, IMAGENET_STD))
    picture = rgb.permute(0, 3, 1, 2).float().div_(255).mul_(gain[:, :, None, None])
    return picture.clamp_(max=1).sub_(mean).div_(std)


class TrainingSamples(torch.utils.data.Dataset):
    """The whole training run as one list: sample n is decided by (seed, n) alone.

    datasets: one or more RGB-D sets; shares: how often each is drawn, relative. A sample is rgb,
    gain and depth (1×128×160) as :func:`~train.augment.augment` makes them, and a sentence for
    each pair that could not be read: the next pair of the order takes its place. Where not one
    can be read, rgb, gain and depth are None.
    """

    def __init__(self, datasets, shares, count, seed, augmentation, mix=0.0, style=0.0):
        self.datasets, self.count, self.seed = datasets, count, seed
        self.shares = np.cumsum(shares) / np.sum(shares)
        self.augmentation, self.mix, self.style = augmentation, mix, style
        self.orders, self.broken, self.colours = {}, {}, {}

    def __len__(self):
        return self.count

    def order(self, which, lap):
        """Every image once a lap, in an order of the lap's own."""
        if (which, lap) not in self.orders:
            rng = np.random.default_rng([self.seed, 1, which, lap])
            self.orders[which, lap] = rng.permutation(len(self.datasets[which]))
        return self.orders[which, lap]

    def place(self, n):
        """Which set sample n is from, which lap through it and which place in the lap's order."""
        # Spread each set evenly: a golden-ratio sequence picks the set.
        which = int(np.searchsorted(self.shares, (n * 0.6180339887498949) % 1.0, side='right'))
        share = self.shares[which] - (self.shares[which - 1] if which else 0)
        return which, *divmod(int(n * share), len(self.datasets[which]))

    def name(self, n):
        """What people call the pair that sample n starts from."""
        which, lap, position = self.place(n)
        return self.datasets[which].name(self.order(which, lap)[position])

    def __getitem__(self, n):
        which, lap, position = self.place(n)
        rng, lost = np.random.default_rng([self.seed, 2, n]), []
        sample = self.sample(which, np.roll(self.order(which, lap), -position), rng, lost)
        if sample and self.mix and rng.random() < self.mix:
            which = int(np.searchsorted(self.shares, rng.random(), side='right'))
            count = len(self.datasets[which])
            indices = (rng.integers(count) + np.arange(count)) % count
            other = self.sample(which, indices, rng, lost)
            if other:
                sample = self.paste(sample, other, rng)
        rgb, gain, depth = sample or (None, None, None)
        return rgb, gain, None if depth is None else depth[None], lost

    def paste(self, sample, other, rng):
        """:func:`paste_window` for two samples, whose gains differ."""
        (rgb, depth), (other_rgb, other_depth) = (
            (rgb if (gain == 1).all() else to_uint8(rgb * gain), depth)
            for rgb, gain, depth in (sample, other))
        rgb, depth = paste_window(rgb, depth, other_rgb, other_depth, rng)
        return rgb, np.ones(3, np.float32), depth

    def sample(self, which, indices, rng, lost):
        """The first of the pairs that can be read, augmented; None: none of them can."""
        dataset = self.datasets[which]
        for i in indices:
            if (which, i) not in self.broken:
                try:
                    rgb, depth, focal = read_checked(dataset, i)
                except OSError as error:
                    self.broken[which, i] = explain(error)
                else:
                    if which and self.style and rng.random() < self.style:
                        rgb = self.restyled(rgb, rng)
                    # what NYU's camera would have to stand in front of, to see the same picture
                    depth = depth * np.float32(NYU_FX_PER_WIDTH / focal)
                    return augment(rgb, depth, rng, focal=focal, **self.augmentation)
            lost.append(self.broken[which, i])
        return None

    def restyled(self, rgb, rng):
        """A picture of another set in the colours of one of the first set's."""
        i, strength = int(rng.integers(len(self.datasets[0]))), rng.random()
        if i not in self.colours:
            try:
                self.colours[i] = colour_statistics(read_checked(self.datasets[0], i)[0])
            except OSError:  # named when its own turn comes
                self.colours[i] = None
        return rgb if self.colours[i] is None else transfer_colours(rgb, self.colours[i], strength)


def make_samples(config, datasets, count, shares=None):
    """The first `count` Samples that a configuration asks for; without shares, by sets' sizes."""
    return TrainingSamples(datasets, shares or [len(dataset) for dataset in datasets], count,
                   config['seed'], config['augment'], config['mix'], config['style'])


def collate(samples):
    """Samples → uint8 N×H×W×3, gain N×3, depth N×1×h×w, and what could not be read.

    The tensors are None where a sample is.
    """
    lost = [sentence for *_, sentences in samples for sentence in sentences]
    if any(sample[0] is None for sample in samples):
        return None, None, None, lost
    return *default_collate([sample[:3] for sample in samples]), lost


def check_batch(rgb, lost):
    """Raise OSError for a batch that :func:`collate` had to leave empty."""
    if rgb is None:
        raise OSError(f'not one pair of a dataset can be read; the last: {lost[-1]}')


def _start_worker(handles):
    cv2.setNumThreads(0)  # one worker, one core; and threads don't survive a fork
    # Ctrl-C and a service manager's SIGTERM reach all processes: the trainer is the one to act.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for handle in handles:
        os.close(handle)


def make_loader(samples, numbers, batch, workers=0, pin_memory=False, handles=()):
    """Batches of the samples with these numbers, loaded ahead by `workers` processes.

    handles: open files of this process that the workers must not keep open.
    """
    return DataLoader(
        Subset(samples, numbers), batch_size=batch, num_workers=workers, collate_fn=collate,
        prefetch_factor=4 if workers else None, pin_memory=pin_memory,
        # forked: what a dataset holds in memory is not copied
        multiprocessing_context='fork' if workers else None,
        worker_init_fn=lambda _: _start_worker(handles))
