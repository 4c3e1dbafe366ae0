"""What a checkpoint holds, saved and loaded as one object."""

import contextlib
import math
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import atomic_write
from hybrid_depth_ros.network import HybridDepthNet
from train.configuration import AugmentationConfig, TrainingConfig
from train.distributed import DistributedContext
from train.networks import make_trainable
from train.optimisation import make_optimiser, make_scaler
from train.split import Split


class TrainingState:
    """All that the next step depends on: saved and loaded, a training goes on as if never stopped.

    Attributes:
        network: What trains, in numbers of `dtype`.
        ema: The exponential moving average of its weights. ``ema.module`` is the network to ship.
        optimiser, scaler: See :mod:`train.optimisation`.
        step: Steps done, of `steps`. `epoch_steps` make an epoch.
        best: The lowest REL of a validation so far.
        sparse: Whether images of some set have depth in a few pixels only.
        recent: (loss, δ1) of the steps of the last epoch.
        skipped: A sentence for each pair that is left out, in order.
        settings: The configuration as checkpoints hold it, and the number of training images.
        log_size: Bytes of log.txt that were written by then.
    """

    def __init__(self, config: TrainingConfig, network: HybridDepthNet,
                 context: DistributedContext, split: Split) -> None:
        self.dtype = torch.float64 if config.precision == 'fp64' else torch.float32
        network.to(self.dtype)
        self.epoch_steps = max(1, (config.epoch_images or split.training_images) // config.batch)
        self.steps = config.epochs * self.epoch_steps
        # until `ema_start` it follows the network exactly; timm counts from one step earlier
        self.ema = ModelEmaV3(
            network.to(context.device).to(memory_format=torch.channels_last),
            decay=config.ema, update_after_step=math.floor(
                config.ema_start * self.steps + 1e-6) - 1)
        self.network = make_trainable(config, network, context.rank, context.world_size,
                                      context.device)
        self.optimiser = make_optimiser(config, self.network)
        self.scaler = make_scaler(config, context.device)
        self.step, self.best = 0, math.inf
        self.skipped: dict[str, None] = dict.fromkeys(split.skipped)
        self.sparse = any(dataset.sparse for dataset in split.training)
        self.recent: deque[tuple[float, float]] = deque(maxlen=self.epoch_steps)
        self.settings = {**config.to_keys(), 'images': split.training_images}
        self.log_size: int | None = None
        self._seconds, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long this training has run, s, all its starts together."""
        return self._seconds + time.monotonic() - self._started

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last of an epoch."""
        return self.step % self.epoch_steps == 0

    def newly_skipped(self, sentences: Iterable[str]) -> Iterator[str]:
        """Note pairs that are left out; yields those that were not known."""
        for sentence in sentences:
            if sentence not in self.skipped:
                self.skipped[sentence] = None
                yield sentence

    def save(self, path: Path) -> None:
        """Write the checkpoint. Raises OSError where there is no room for it."""
        save_checkpoint(path, {
            'network': self.network.state_dict(), 'average': self.ema.module.state_dict(),
            'optimiser': self.optimiser.state_dict(), 'scaler': self.scaler.state_dict(),
            'step': self.step, 'best': self.best, 'recent': list(self.recent),
            'lost': list(self.skipped), 'settings': self.settings, 'seconds': self.seconds,
            'log_size': self.log_size})

    def load(self, path: Path, device: torch.device) -> list[str]:
        """Go on from a checkpoint.

        Returns:
            The settings that differ now, ``key before → now``.

        Raises:
            OSError: The file is not whole.
            ValueError: It is of another network.
        """
        stored = load_checkpoint(path, device)
        try:
            self.network.load_state_dict(stored['network'])
            self.ema.module.load_state_dict(stored['average'])
            self.optimiser.load_state_dict(stored['optimiser'])
            self.step, self.best = stored['step'], stored['best']
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is not of the network and optimiser of this configuration; '
                             'give the one it was trained with') from error
        self.scaler.load_state_dict(stored.get('scaler', {}) if self.scaler.is_enabled() else {})
        self.recent.extend(stored.get('recent', ()))
        self._seconds, self.log_size = stored.get('seconds', 0.0), stored.get('log_size')
        self.skipped.update(dict.fromkeys(stored.get('lost', ())))
        return _changes(stored.get('settings', self.settings), self.settings)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two stored settings. A default may be written or left out."""
    with contextlib.suppress(KeyError, TypeError):  # a key that is not known any more
        before = {**before, 'augment': AugmentationConfig.from_keys(before['augment']).to_keys()}
    return [f'{key} {before.get(key)} → {value}' for key, value in now.items()
            if before.get(key) != value]


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """torch.save that leaves either the old file or the new one, whole and on the disk.

    Raises:
        OSError: There is no room for it. The old file stays.
    """
    try:
        with atomic_write(path) as partial:
            torch.save(contents, partial)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__ or error
        raise OSError(f'{path} could not be written ({reason(cause)})'
                      + ('; the one before it is whole' if path.exists() else '')) from error


def load_checkpoint(path: Path, device: torch.device | str) -> dict[str, Any]:
    """What :func:`save_checkpoint` wrote; OSError where it is not whole. Nothing is executed."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise OSError(f'{path} is not a whole checkpoint; start anew with --init '
                      f'{path.with_name("best.safetensors")}, in another --out') from error


def find_checkpoint(out: Path, resume: bool, is_main: bool) -> Path:
    """OUT/last.pt.

    Raises:
        OSError: It is missing although the training is to be resumed, or it is of an earlier
            training.
    """
    last = out / 'last.pt'
    if resume and not last.is_file():
        raise OSError(f'--resume: {last} is not there; pass the --out of the training to go on '
                      'with, or leave out --resume to start one')
    if last.exists() and not resume and is_main:
        raise OSError(f'{last} is of an earlier training: go on with it by --resume, remove it or '
                      'choose another --out')
    return last


def all_finite(network: nn.Module) -> bool:
    """Whether all parameters and statistics of a network are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
