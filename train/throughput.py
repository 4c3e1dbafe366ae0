"""Does loading keep up with training? ``python -m train.throughput --config CONFIG --data PATH``.

Measures images a second of the loader alone, of the training step alone, and of a plain form of
that step: float32, tensors as torch lays them out, eight unpooling convolutions, torch's own
gradients and AdamW. Steps take turns, and medians are compared.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room
from train.arguments import add_training_arguments, check_shares
from train.configuration import TrainingConfig, load_config
from train.data import (
    PREFETCHED_BATCHES,
    Batch,
    loaded_batches,
    make_loader,
    make_samples,
    require_batch,
    to_input,
)
from train.datasets import open_dataset
from train.datasets.pairs import RgbdDataset, RgbdPair
from train.distributed import GlobalBatchDropout
from train.loss import total_loss
from train.networks import add_drop_path, freeze, make_network, make_trainable
from train.optimisation import backward_and_step, make_autocast, make_optimiser, make_scaler

Step = Callable[[Batch], None]
WARM_UP_ROUNDS = 2


class RoomWalk(RgbdDataset):
    """Images of the virtual room, rendered once: something to load where there is no data."""

    def __init__(self, count: int = 8) -> None:
        room, camera = Room(0), Intrinsics.from_horizontal_fov(640, 480, 63.3)
        self._pairs = [RgbdPair(*room.render(camera, room.camera_pose(WALK_SECONDS * i / count)))
                       for i in range(count)]

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, i: int) -> RgbdPair:
        return self._pairs[i]

    def name(self, i: int) -> str:
        return f'virtual room, frame {i}'


def make_step(config: TrainingConfig, network: HybridDepthNet, device: torch.device) -> Step:
    """The training step of train.nyu on one batch."""
    dtype = torch.float64 if config.precision == 'fp64' else torch.float32
    network = make_trainable(config, network.to(dtype), device=device)
    optimiser, scaler = make_optimiser(config, network), make_scaler(config, device)
    module = torch.compile(network) if config.compile else network

    def step(batch: Batch) -> None:
        target = batch.depth.to(device, dtype)
        with make_autocast(config, device):
            predicted = module(to_input(batch.rgb.to(device), batch.gain.to(device)).to(dtype))
        backward_and_step(config, network, optimiser, scaler,
                          total_loss(config, predicted.to(dtype), target, target > 0))
    return step


def make_plain_step(config: TrainingConfig, network: HybridDepthNet, device: torch.device
                    ) -> Step:
    """The same step as anyone would write it first."""
    network.dropout = GlobalBatchDropout(config.dropout, 0, 1)
    add_drop_path(network, config.drop_path, 0, 1)
    freeze(network.to(device).train(), config.freeze)
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad],
                                  lr=1e-3, weight_decay=config.weight_decay)

    def step(batch: Batch) -> None:
        inputs = to_input(batch.rgb, batch.gain).contiguous().to(device)
        target = batch.depth.to(device)
        loss = total_loss(config, network(inputs), target, target > 0)
        optimiser.zero_grad()
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimiser.step()
    return step


def step_times(steps: Mapping[str, Step], batch: Batch, device: torch.device, rounds: int
               ) -> dict[str, float]:
    """Median seconds of each step function, taking turns, after WARM_UP_ROUNDS."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + WARM_UP_ROUNDS):
        for name, step in steps.items():
            started = time.perf_counter()
            step(batch)
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if turn >= WARM_UP_ROUNDS:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def loading_time(config: TrainingConfig, data: Sequence[RgbdDataset], workers: int, batches: int,
                 shares: Sequence[float] | None = None) -> tuple[float, Batch]:
    """Seconds that a batch takes to load, and a batch. What is loaded ahead does not count."""
    ahead = PREFETCHED_BATCHES * workers + 1
    samples = make_samples(config, data, (ahead + batches) * config.batch, shares)
    with loaded_batches(make_loader(samples, range(len(samples)), config.batch, workers)) as loader:
        *_, batch = (require_batch(loaded) for loaded in islice(loader, ahead))
        started = time.perf_counter()
        count = sum(1 for _ in loader)
        return (time.perf_counter() - started) / count, batch


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.throughput')
    add_training_arguments(parser, required=False, default=[], help='RGB-D data in any form; '
                           'default: a virtual room, rendered before, so that reading costs '
                           'nothing')
    parser.add_argument('--workers', type=int, default=1, help='loading processes')
    parser.add_argument('--rounds', type=int, default=8, help='batches and steps measured')
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, workers=0, rounds=1)
    with exit_on_error('train.throughput'):
        config = load_config(args.config, args.set)
        data = [open_dataset(path) for path in args.data] or [RoomWalk()]
        loading, batch = loading_time(config, data, args.workers, args.rounds, args.shares)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = make_network(config, from_scratch=True)
    steps = {
        config.precision: make_step(config, copy.deepcopy(network), device),
        'plain': make_plain_step(config, copy.deepcopy(network), device)}
    if config.precision != 'fp32':
        steps['fp32'] = make_step(replace(config, precision='fp32'), network, device)
    times = step_times(steps, batch, device, args.rounds)
    ours, plain, size = times[config.precision], times['plain'], config.batch
    rows = [(f'loader alone, workers: {args.workers}', loading, f'{ours / loading:.2f} × the step'),
            *((f'step alone, {name}', seconds, f'{plain / seconds:.2f} × the plain step')
              for name, seconds in times.items() if name != 'plain'),
            ('plain step, fp32', plain, '')]
    print(f'{config.encoder}, batches of {size}, {device.type}, '
          f'{torch.get_num_threads()} threads')
    print(f'{"":28}{"images/s":>10}{"ms/batch":>10}')
    for name, seconds, ratio in rows:
        print(f'{name:28}{size / seconds:10.1f}{1000 * seconds:10.0f}   {ratio}')


if __name__ == '__main__':
    main()
