"""The mean of several trained networks: ``python -m train.average A B --data PATH --out MEAN``.

Weights from runs that began at the same weights can be averaged (Wortsman et al. 2022, *Model
soups*); rooms unlike the training rooms profit most. The batch norms' statistics are not those
of the mean, so they are measured anew on training samples.
"""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from collections.abc import Iterable, Iterator, Sequence

import torch
import tqdm
from torch.optim.swa_utils import update_bn

from hybrid_depth_ros.arguments import argument_parser, check_minimum, exit_on_error, user_path
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import load_network, save_network
from train.arguments import add_training_arguments, check_shares
from train.configuration import VALIDATION_OPTION, load_config
from train.data import LoadedBatch, make_loader, make_samples, require_batch, to_input
from train.datasets import open_dataset


def average(networks: Sequence[HybridDepthNet]) -> HybridDepthNet:
    """The first network, with the mean of all networks' parameters; it is changed.

    Raises:
        ValueError: They are not of one kind.
    """
    first, *others = networks
    for other in others:
        if (other.encoder_name, other.lateral) != (first.encoder_name, first.lateral):
            raise ValueError(f'{other.encoder_name} and {first.encoder_name} have no mean: give '
                             'weights of one network')
    states = [network.state_dict() for network in networks]
    with torch.no_grad():
        for name, tensor in states[0].items():
            if tensor.is_floating_point():
                tensor.copy_(torch.stack([state[name] for state in states]).mean(0))
    return first


def measure_batch_norms(network: HybridDepthNet, batches: Iterable[torch.Tensor]
                        ) -> HybridDepthNet:
    """Set each batch norm's mean and variance to the average over batches (float N×3×H×W)."""
    dropout, network.dropout = network.dropout, torch.nn.Identity()
    update_bn((batch.contiguous(memory_format=torch.channels_last) for batch in batches), network)
    network.dropout = dropout
    return network.eval()


def inputs(loader: Iterable[LoadedBatch]) -> Iterator[torch.Tensor]:
    """The network's input of each batch; OSError where no pair can be read."""
    for loaded in loader:
        batch = require_batch(loaded)
        yield to_input(batch.rgb, batch.gain)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argument_parser(__doc__, prog='train.average')
    parser.add_argument('weights', nargs='+', help='registered names or files')
    parser.add_argument('--batches', type=int, default=24, help="of the configuration's size")
    parser.add_argument('--out', type=user_path, required=True, help='.safetensors to write')
    add_training_arguments(parser)
    args = parser.parse_args(argv)
    check_shares(parser, args)
    check_minimum(parser, args, batches=1)
    with exit_on_error('train.average'):
        config = load_config(args.config, args.set)
        data = [open_dataset(path) for path in args.data]
        if config.validation:
            data[0] = data[0].numbered(config.validation, keep=False, option=VALIDATION_OPTION)
        network = average([load_network(weights) for weights in args.weights])
        network.to(memory_format=torch.channels_last)
        size = config.batch
        samples = make_samples(config, data, args.batches * size, args.shares)
        loader = make_loader(samples, range(len(samples)), size)
        measure_batch_norms(network, inputs(tqdm.tqdm(loader, unit='batch')))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, args.out)
    print(f'{args.out}: the mean of {len(args.weights)} networks')


if __name__ == '__main__':
    main()
