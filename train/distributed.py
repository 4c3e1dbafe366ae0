"""One training in several processes: each holds a part of the batch, sums are over the whole."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import timm
import torch
import torch.distributed
from timm.layers import BatchNormAct2d
from torch import nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce

Network = TypeVar('Network', bound=nn.Module)


class DistributedContext(NamedTuple):
    """The processes of one training, as one of them sees them."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def local_world_size(self) -> int:
        """How many of the processes run on this machine."""
        return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if self.world_size > 1 else 1

    def local_batch_size(self, batch: int) -> int:
        """Samples of a batch that this process loads.

        Raises:
            ValueError: The batch cannot be shared equally.
        """
        if batch % self.world_size:
            raise ValueError(
                f'a batch of {batch} cannot be shared by {self.world_size} processes; make it a '
                'multiple: --set batch='
                f'{batch // self.world_size * self.world_size + self.world_size}')
        return batch // self.world_size

    def sample_indices(self, first_step: int, end_step: int, batch: int) -> list[int]:
        """Indices of the samples that this process loads in these steps, in order."""
        local = self.local_batch_size(batch)
        return [n for step in range(first_step, end_step)
                for n in range(step * batch + self.rank * local,
                               step * batch + (self.rank + 1) * local)]

    def gather(self, messages: list[str]) -> list[str]:
        """The messages of all processes."""
        lists: list[list[str]] = [messages] * self.world_size
        if self.world_size > 1:
            torch.distributed.all_gather_object(lists, messages)
        return [message for each in lists for message in each]

    def wrap(self, network: nn.Module, compiled: bool = False) -> nn.Module:
        """The module to run forward, so that gradients are those of the whole batch."""
        if self.world_size > 1:
            network = nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
        return torch.compile(network) if compiled else network  # type: ignore[return-value]


@contextlib.contextmanager
def init_distributed() -> Iterator[DistributedContext]:
    """The context under torchrun, or of a process alone."""
    cuda = torch.cuda.is_available()
    if 'RANK' not in os.environ:
        yield DistributedContext(0, 1, torch.device('cuda' if cuda else 'cpu'))
        return
    torch.distributed.init_process_group('nccl' if cuda else 'gloo')
    try:
        device = torch.device('cuda', int(os.environ['LOCAL_RANK'])) if cuda else torch.device(
            'cpu')
        if cuda:
            torch.cuda.set_device(device)
        yield DistributedContext(torch.distributed.get_rank(), torch.distributed.get_world_size(),
                                 device)
    finally:
        torch.distributed.destroy_process_group()


def all_reduce(value: torch.Tensor,
               operation: torch.distributed.ReduceOp.RedOpType = torch.distributed.ReduceOp.SUM
               ) -> torch.Tensor:
    """A number of this process's part of the batch → that of the whole batch; no gradient."""
    value = value.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value, operation)
    return value


class GlobalBatchDropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, so that the number of processes does not
    change it.

    Args:
        p: Probability of dropping.
        rank, world_size: Which part of the batch is here.
        per_sample: Drop whole samples, as stochastic depth does (Huang et al. 2016).
    """

    def __init__(self, p: float, rank: int, world_size: int, per_sample: bool = False) -> None:
        super().__init__()
        self.p, self.rank, self.world_size, self.per_sample = p, rank, world_size, per_sample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×… → N×…"""
        if not self.training or not self.p:
            return x
        count = len(x)
        shape = [1] * (x.ndim - 1) if self.per_sample else x.shape[1:]
        kept = torch.rand((count * self.world_size, *shape), device=x.device) >= self.p
        return x * kept[self.rank * count:(self.rank + 1) * count] / (1 - self.p)


def _synced_batch_norm(module: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Forward of a BatchNorm2d with the statistics of all processes' batches.

    torch's SyncBatchNorm does this on GPUs only.
    """
    if not module.training:
        return type(module).forward(module, x)
    exact = x.double()
    sums = differentiable_all_reduce(torch.stack(
        (exact.sum((0, 2, 3)), exact.square().sum((0, 2, 3)))))
    count = all_reduce(torch.tensor(x.numel() // x.shape[1])).item()
    mean = sums[0] / count
    variance = sums[1] / count - mean.square()
    assert module.running_mean is not None and module.running_var is not None
    assert module.num_batches_tracked is not None and module.momentum is not None
    with torch.no_grad():
        module.num_batches_tracked += 1
        module.running_mean.lerp_(mean.to(module.running_mean), module.momentum)
        module.running_var.lerp_((variance * count / (count - 1)).to(module.running_var),
                                 module.momentum)
    scale = module.weight * (variance + module.eps).rsqrt()
    shift = module.bias - mean * scale
    x = (exact * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)
    if isinstance(module, BatchNormAct2d):
        return module.act(module.drop(x))
    return x


def sync_batch_norms(network: Network, device: torch.device) -> Network:
    """Let every batch norm use the statistics of the whole batch; returns the network."""
    if device.type == 'cuda':
        return timm.layers.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = partial(_synced_batch_norm, module)  # type: ignore[method-assign]
    return network
