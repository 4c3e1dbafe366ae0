"""What a checkpoint holds, saved and loaded as one object."""

import copy
import math
import pickle
import time
from collections import deque

import torch

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import atomic_write
from train.networks import make_trainable
from train.optimisation import make_optimiser, make_scaler


class TrainingState:
    """All that the next step depends on; saved and loaded, training goes on as if never stopped.

    ``network`` trains, in numbers of ``kind`` and ``average`` is the mean of its weights that
    ships. ``step`` of ``steps`` are done, ``epoch_steps`` make an epoch, and ``recent`` are its
    (loss, δ1). ``best``: the lowest REL so far. ``lost``: a sentence for each pair left out.
    """

    def __init__(self, config, network, team, cut):
        self.kind = torch.float64 if config['precision'] == 'fp64' else torch.float32
        network.to(self.kind)
        self.average = copy.deepcopy(network).to(
            team.device, memory_format=torch.channels_last).eval()
        self.network = make_trainable(config, network, team.rank, team.world, team.device)
        self.optimiser = make_optimiser(config, self.network)
        self.scaler = make_scaler(config, team.device)
        self.epoch_steps = max(1, (config['epoch_images'] or cut.images) // config['batch'])
        self.steps = config['epochs'] * self.epoch_steps
        self.step, self.best, self.lost = 0, math.inf, dict.fromkeys(cut.lost)
        self.recent = deque(maxlen=self.epoch_steps)
        self.settings = {**config, 'images': cut.images}
        self.log_size = None  # bytes of log.txt that were written by then
        self._seconds, self._started = 0.0, time.monotonic()

    @property
    def seconds(self):
        """How long this training has run, all its starts together."""
        return self._seconds + time.monotonic() - self._started

    @property
    def epoch_ended(self):
        """Whether an epoch is at its end."""
        return self.step % self.epoch_steps == 0

    def newly_lost(self, sentences):
        """Note pairs that are left out; yields those that were not known."""
        for sentence in sentences:
            if sentence not in self.lost:
                self.lost[sentence] = None
                yield sentence

    def save(self, path):
        """Write the checkpoint. Raises OSError where there is no room for it."""
        save_checkpoint(path, {
            'network': self.network.state_dict(), 'average': self.average.state_dict(),
            'optimiser': self.optimiser.state_dict(), 'scaler': self.scaler.state_dict(),
            'step': self.step, 'best': self.best, 'recent': list(self.recent),
            'lost': list(self.lost), 'settings': self.settings, 'seconds': self.seconds,
            'log_size': self.log_size})

    def load(self, path, device):
        """Go on from a checkpoint; returns what is set otherwise now, ``key before → now``.

        Raises OSError where it is not whole, ValueError where it is of another network.
        """
        held = load_checkpoint(path, device)
        try:
            self.network.load_state_dict(held['network'])
            self.average.load_state_dict(held['average'])
            self.optimiser.load_state_dict(held['optimiser'])
            self.step, self.best = held['step'], held['best']
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is not of the network and optimiser of this configuration; '
                             'give the one it was trained with') from error
        self.scaler.load_state_dict(held.get('scaler', {}) if self.scaler.is_enabled() else {})
        self.recent.extend(held.get('recent', ()))
        self._seconds, self.log_size = held.get('seconds', 0.0), held.get('log_size')
        self.lost.update(dict.fromkeys(held.get('lost', ())))
        before = held.get('settings', self.settings)
        return [f'{key} {before.get(key)} → {now}' for key, now in self.settings.items()
                if before.get(key) != now]


def save_checkpoint(path, state):
    """torch.save that leaves either the old file or the new one, whole and on the disk.

    Raises OSError where there is no room for it: the old file stays.
    """
    try:
        with atomic_write(path) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__ or error
        raise OSError(f'{path} could not be written ({reason(cause)})'
                      + ('; the one before it is whole' if path.exists() else '')) from error


def load_checkpoint(path, device):
    """What :func:`save_checkpoint` wrote; OSError where it is not whole. Nothing is executed."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise OSError(f'{path} is not a whole checkpoint; start anew with --init '
                      f'{path.with_name("best.safetensors")}, in another --out') from error


def find_checkpoint(out, resume, lead):
    """OUT/last.pt. Raises OSError where it is missing to go on with, or of another training."""
    last = out / 'last.pt'
    if resume and not last.is_file():
        raise OSError(f'--resume: {last} is not there; pass the --out of the training to go on '
                      'with, or leave out --resume to start one')
    if last.exists() and not resume and lead:
        raise OSError(f'{last} is of an earlier training: go on with it by --resume, remove it or '
                      'choose another --out')
    return last


def all_finite(network):
    """Whether all parameters and statistics of a network are numbers."""
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
