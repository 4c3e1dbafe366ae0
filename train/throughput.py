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
from itertools import islice

import torch

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room
from train.arguments import add_training_arguments, check_shares
from train.configuration import load_config
from train.data import check_batch, make_loader, make_samples, to_input
from train.datasets import open_dataset
from train.datasets.pairs import RgbdDataset
from train.distributed import SharedDropout
from train.loss import total_loss
from train.networks import add_drop_path, freeze, make_network, make_trainable
from train.optimisation import backward_and_step, make_autocast, make_optimiser, make_scaler


class Walk(RgbdDataset):
    """Pictures of the virtual room, drawn once: something to load where there is no data."""

    def __init__(self, count=8):
        room, camera = Room(0), Intrinsics.from_horizontal_fov(640, 480, 63.3)
        self.pairs = [room.render(camera, room.camera_pose(WALK_SECONDS * i / count))
                      for i in range(count)]

    def read(self, i):
        return self.pairs[i]

    def name(self, i):
        return f'virtual room, frame {i}'


def make_step(config, network, device):
    """The training step of train.nyu on one batch."""
    kind = torch.float64 if config['precision'] == 'fp64' else torch.float32
    network = make_trainable(config, network.to(kind), device=device)
    optimiser, scaler = make_optimiser(config, network), make_scaler(config, device)
    runner = torch.compile(network) if config['compile'] else network

    def step(rgb, gain, depth):
        target = depth.to(device, kind)
        with make_autocast(config, device):
            predicted = runner(to_input(rgb.to(device), gain.to(device)).to(kind))
        backward_and_step(config, network, optimiser, scaler,
               total_loss(config, predicted.to(kind), target, target > 0))
    return step


def make_plain_step(config, network, device):
    """The same step as anyone would write it first."""
    network.dropout = SharedDropout(config['dropout'], 0, 1)
    add_drop_path(network, config['drop_path'], 0, 1)
    freeze(network.to(device).train(), config['freeze'])
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad],
                                  lr=1e-3, weight_decay=config['weight_decay'])

    def step(rgb, gain, depth):
        inputs, target = to_input(rgb, gain).contiguous().to(device), depth.to(device)
        loss = total_loss(config, network(inputs), target, target > 0)
        optimiser.zero_grad()
        loss.backward()
        if config['clip']:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config['clip'])
        optimiser.step()
    return step


def step_times(steps, batch, device, rounds):
    """Median seconds of each step function, taking turns; the first two rounds warm up."""
    times = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step(*batch)
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if turn > 1:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def loading_time(config, data, workers, batches, shares=None):
    """(seconds a batch takes to load, a batch); what is loaded ahead at the start not counted."""
    ahead = 4 * workers + 1
    samples = make_samples(config, data, (ahead + batches) * config['batch'], shares)
    loader = iter(make_loader(samples, range(len(samples)), config['batch'], workers))
    for *batch, lost in islice(loader, ahead):
        check_batch(batch[0], lost)
    started = time.perf_counter()
    loaded = sum(1 for _ in loader)
    return (time.perf_counter() - started) / loaded, batch


def main(argv=None):
    parser = argument_parser(__doc__, prog='train.throughput')
    add_training_arguments(parser, required=False, default=[], help='RGB-D data in any form; '
                           'default: a virtual room, drawn before, so that reading costs nothing')
    parser.add_argument('--workers', type=int, default=1, help='loading processes')
    parser.add_argument('--rounds', type=int, default=8, help='batches and steps measured')
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, workers=0, rounds=1)
    with exit_on_error('train.throughput'):
        config = load_config(args.config, args.set)
        data = [open_dataset(path) for path in args.data] or [Walk()]
        loading, batch = loading_time(config, data, args.workers, args.rounds, args.shares)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = make_network(config, from_scratch=True)
    steps = {
        config['precision']: make_step(config, copy.deepcopy(network), device),
        'plain': make_plain_step(config, copy.deepcopy(network), device)}
    if config['precision'] != 'fp32':
        steps['fp32'] = make_step({**config, 'precision': 'fp32'}, network, device)
    times = step_times(steps, batch, device, args.rounds)
    ours, plain, size = times[config['precision']], times['plain'], config['batch']
    rows = [(f'loader alone, workers: {args.workers}', loading, f'{ours / loading:.2f} × the step'),
            *((f'step alone, {name}', seconds, f'{plain / seconds:.2f} × the plain step')
              for name, seconds in times.items() if name != 'plain'),
            ('plain step, fp32', plain, '')]
    print(f'{config["encoder"]}, batches of {size}, {device.type}, '
          f'{torch.get_num_threads()} threads')
    print(f'{"":28}{"images/s":>10}{"ms/batch":>10}')
    for name, seconds, ratio in rows:
        print(f'{name:28}{size / seconds:10.1f}{1000 * seconds:10.0f}   {ratio}')


if __name__ == '__main__':
    main()
