"""Training samples on their way to the network.

Images stay uint8, rows × columns × channels, from the loading process to the network's device:
a quarter of the bytes. :func:`to_input` makes the network's input there.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.predictor import NYU_FX_PER_WIDTH
from train.augment import (
    CROP_HEIGHT,
    CROP_WIDTH,
    Sample,
    augment,
    colour_statistics,
    paste_window,
    to_uint8,
    transfer_colours,
)
from train.configuration import AugmentationConfig, TrainingConfig
from train.datasets.pairs import RgbdDataset, read_checked

GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, spread evenly
PREFETCHED_BATCHES = 4             # of each loading process
SHARED_MEMORY = Path('/dev/shm')   # through which loading processes pass their batches
# of one sample: rgb, gain, and depth of half the size
SAMPLE_BYTES = 3 * CROP_HEIGHT * CROP_WIDTH + 3 * 4 + 4 * (CROP_HEIGHT // 2) * (CROP_WIDTH // 2)


def normalise(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """RGB in 0…1, … × 3 → float32 3 × …, the network's input."""
    mean: npt.NDArray[np.float32] = np.array(IMAGENET_MEAN, np.float32)
    std: npt.NDArray[np.float32] = np.array(IMAGENET_STD, np.float32)
    return np.ascontiguousarray(np.moveaxis((rgb - mean) / std, -1, 0))


def to_input(rgb: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """The network's input, on the device of the images.

    Args:
        rgb: uint8 N×H×W×3.
        gain: float32 N×3, a factor of each channel.

    Returns:
        float32 N×3×H×W, channels last in memory, as the uint8 images are.
    """
    mean, std = (torch.tensor(values, device=rgb.device).view(3, 1, 1)
                 for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = rgb.permute(0, 3, 1, 2).float().div_(255).mul_(gain[:, :, None, None])
    return image.clamp_(max=1).sub_(mean).div_(std)


class LoadedSample(NamedTuple):
    """A sample, None where no pair of its set can be read; a sentence for each unreadable pair."""

    sample: Sample | None
    skipped: list[str]


class Batch(NamedTuple):
    """Samples as tensors: rgb uint8 N×H×W×3, gain float32 N×3, depth float32 N×1×h×w (metres)."""

    rgb: torch.Tensor
    gain: torch.Tensor
    depth: torch.Tensor


class LoadedBatch(NamedTuple):
    """A batch, None where a sample is; a sentence for each unreadable pair."""

    batch: Batch | None
    skipped: list[str]


class TrainingSamples(torch.utils.data.Dataset[LoadedSample]):
    """The whole training run as one list: sample n is decided by (seed, n) alone.

    Where a pair cannot be read, the next pair of the order takes its place.

    Args:
        datasets: One or more RGB-D datasets.
        shares: How often each is drawn, relative to the others.
        count: Number of samples.
        seed: Of all random numbers.
        augmentation: How a pair becomes a sample.
        mix: Share of the samples with a window of another sample pasted in.
        style: Share of the samples of the other sets that take colours from the first set.
    """

    def __init__(self, datasets: Sequence[RgbdDataset], shares: Sequence[float], count: int,
                 seed: int, augmentation: AugmentationConfig, mix: float = 0.0,
                 style: float = 0.0) -> None:
        self.datasets, self.count, self.seed = datasets, count, seed
        self.shares = np.cumsum(shares) / np.sum(shares)
        self.augmentation, self.mix, self.style = augmentation, mix, style
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._unreadable: dict[tuple[int, int], str] = {}
        self._colours: dict[int, npt.NDArray[np.float64] | None] = {}

    def __len__(self) -> int:
        return self.count

    def order(self, which: int, lap: int) -> npt.NDArray[np.int64]:
        """Every image of a set once in a lap, in an order of the lap's own."""
        if (which, lap) not in self._orders:
            rng = np.random.default_rng([self.seed, 1, which, lap])
            self._orders[which, lap] = rng.permutation(len(self.datasets[which]))
        return self._orders[which, lap]

    def locate(self, n: int) -> tuple[int, int, int]:
        """Which set sample n is from, which lap through it, and its place in the lap's order."""
        which = int(np.searchsorted(self.shares, (n * GOLDEN_RATIO) % 1.0, side='right'))
        share = self.shares[which] - (self.shares[which - 1] if which else 0)
        return which, *divmod(int(n * share), len(self.datasets[which]))

    def name(self, n: int) -> str:
        """The name of the pair that sample n starts from."""
        which, lap, position = self.locate(n)
        return self.datasets[which].name(self.order(which, lap)[position])

    def __getitem__(self, n: int) -> LoadedSample:
        which, lap, position = self.locate(n)
        rng = np.random.default_rng([self.seed, 2, n])
        skipped: list[str] = []
        sample = self._draw(which, np.roll(self.order(which, lap), -position), rng, skipped)
        if sample and self.mix and rng.random() < self.mix:
            which = int(np.searchsorted(self.shares, rng.random(), side='right'))
            count = len(self.datasets[which])
            indices = (rng.integers(count) + np.arange(count)) % count
            if other := self._draw(which, indices, rng, skipped):
                sample = _paste(sample, other, rng)
        return LoadedSample(sample, skipped)

    def _draw(self, which: int, indices: npt.NDArray[np.int64], rng: np.random.Generator,
              skipped: list[str]) -> Sample | None:
        """The first of these pairs that can be read, augmented. The others go into `skipped`."""
        dataset = self.datasets[which]
        for i in indices.tolist():
            if (which, i) not in self._unreadable:
                try:
                    rgb, depth, focal = read_checked(dataset, i)
                except OSError as error:
                    self._unreadable[which, i] = explain(error)
                else:
                    if which and self.style and rng.random() < self.style:
                        rgb = self._with_first_colours(rgb, rng)
                    # the depth at which NYU's camera would see the same image
                    depth = depth * np.float32(NYU_FX_PER_WIDTH / focal)
                    return augment(rgb, depth, rng, self.augmentation, focal=focal)
            skipped.append(self._unreadable[which, i])
        return None

    def _with_first_colours(self, rgb: npt.NDArray[np.uint8], rng: np.random.Generator
                            ) -> npt.NDArray[np.uint8]:
        """An image of another set in the colours of one of the first set's."""
        i, strength = int(rng.integers(len(self.datasets[0]))), rng.random()
        if i not in self._colours:
            try:
                self._colours[i] = colour_statistics(read_checked(self.datasets[0], i)[0])
            except OSError:  # named when its own turn comes
                self._colours[i] = None
        statistics = self._colours[i]
        return rgb if statistics is None else transfer_colours(rgb, statistics, strength)


def _paste(sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
    """:func:`~train.augment.paste_window` for two samples, whose gains differ."""
    (rgb, depth), (other_rgb, other_depth) = (
        (rgb if (gain == 1).all() else to_uint8(rgb * gain), depth)
        for rgb, gain, depth in (sample, other))
    rgb, depth = paste_window(rgb, depth, other_rgb, other_depth, rng)
    return Sample(rgb, np.ones(3, np.float32), depth)


def make_samples(config: TrainingConfig, datasets: Sequence[RgbdDataset], count: int,
                 shares: Sequence[float] | None = None) -> TrainingSamples:
    """The first `count` samples of a configuration. Without shares, sets are drawn by size."""
    return TrainingSamples(datasets, shares or [len(dataset) for dataset in datasets], count,
                           config.seed, config.augment, config.mix, config.style)


def collate(loaded: Sequence[LoadedSample]) -> LoadedBatch:
    """Samples → one batch, without tensors where a sample is None."""
    samples = [each.sample for each in loaded if each.sample]
    skipped = [sentence for each in loaded for sentence in each.skipped]
    if len(samples) < len(loaded):
        return LoadedBatch(None, skipped)
    rgb, gain, depth = default_collate(samples)
    return LoadedBatch(Batch(rgb, gain, depth[:, None]), skipped)


def require_batch(loaded: LoadedBatch) -> Batch:
    """The batch. Raises OSError where :func:`collate` had to leave it empty."""
    if loaded.batch is None:
        raise OSError(f'not one pair of a dataset can be read; the last: {loaded.skipped[-1]}')
    return loaded.batch


def _start_worker(handles: Sequence[int]) -> None:
    cv2.setNumThreads(0)  # one worker, one core; and threads don't survive a fork
    # Ctrl-C and a service manager's SIGTERM reach all processes: the trainer is the one to act.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for handle in handles:
        os.close(handle)


def make_loader(samples: TrainingSamples, indices: Sequence[int], batch_size: int,
                workers: int = 0, pin_memory: bool = False, handles: Sequence[int] = ()
                ) -> 'DataLoader[LoadedSample]':
    """Yields a :class:`LoadedBatch` of the samples with these indices, in order.

    Args:
        samples: The samples.
        indices: Which of them, in which order.
        batch_size: Samples in a batch.
        workers: Loading processes; 0: this process loads.
        pin_memory: Whether batches are copied to a GPU.
        handles: Open files of this process that the workers must not keep open.
    """
    return DataLoader(
        Subset(samples, indices), batch_size=batch_size, num_workers=workers, collate_fn=collate,
        prefetch_factor=PREFETCHED_BATCHES if workers else None, pin_memory=pin_memory,
        # forked: what a dataset holds in memory is not copied
        multiprocessing_context='fork' if workers else None,
        worker_init_fn=lambda _: _start_worker(handles))


def fit_workers(workers: int, batch_size: int, say: Callable[[str], None], processes: int = 1
                ) -> int:
    """As many loading processes as have room for their batches in SHARED_MEMORY.

    Args:
        workers: How many are wanted.
        batch_size: Samples in a batch of one training process.
        say: Called with a sentence where there is no room for all.
        processes: Training processes on this machine.
    """
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free / processes
    except OSError:  # none there: torch says what it misses
        return workers
    # each worker holds what it has loaded ahead and the batch it makes; this process one more
    batches = free / (batch_size * SAMPLE_BYTES)
    fitting = max(0, min(workers, int((batches - 1) / (PREFETCHED_BATCHES + 1))))
    if fitting < workers:
        say(f'{SHARED_MEMORY} has {free / 1e6:.0f} MB free, room for {fitting} of {workers} '
            'loading processes: ' + (f'{fitting} are started' if fitting else
                                     'the training process loads too, which is slower')
            + '; start docker with --shm-size=1g for all')
    return fitting


@contextlib.contextmanager
def loaded_batches(loader: 'DataLoader[LoadedSample]') -> Iterator[Iterator[LoadedBatch]]:
    """What the loader yields; its processes end with the block, however it ends.

    Raises:
        OSError: A loading process died, or found no shared memory.
    """
    batches = iter(loader)
    try:
        yield batches
    except RuntimeError as error:
        if 'shared memory' in str(error) or 'Bus error' in str(error):
            raise OSError(f'{SHARED_MEMORY} is full: start docker with --shm-size=1g, or load '
                          'without processes: --set workers=0') from None
        if 'DataLoader worker' in str(error):
            raise OSError(f'a loading process died ({" ".join(str(error).split())}): is there '
                          'too little memory? --set workers=0 loads without processes') from None
        raise
    finally:
        # Left to the interpreter's end, it would wait for processes that ignore its signal.
        if hasattr(batches, '_shutdown_workers'):
            batches._shutdown_workers()

