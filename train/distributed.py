"""One training in several processes: each holds a part of the batch, the sums are the whole's."""

import contextlib
import os
from functools import partial
from typing import NamedTuple

import timm
import torch
import torch.distributed
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce


class DistributedContext(NamedTuple):
    """The processes of one training, seen from one of them."""

    rank: int
    world: int
    device: torch.device

    @property
    def lead(self):
        """Whether it is this process that writes files and talks."""
        return self.rank == 0

    def share(self, batch):
        """This process's part of a batch; ValueError where it can't be shared equally."""
        if batch % self.world:
            raise ValueError(
                f'a batch of {batch} cannot be shared by {self.world} processes; make it a '
                f'multiple: --set batch={batch // self.world * self.world + self.world}')
        return batch // self.world

    def numbers(self, first, end, batch):
        """The numbers of this process's samples in steps first…end, in order."""
        share = self.share(batch)
        return [n for step in range(first, end)
                for n in range(step * batch + self.rank * share,
                               step * batch + (self.rank + 1) * share)]

    def everyones(self, sentences):
        """What any process has in its list."""
        lists = [sentences]
        if self.world > 1:
            lists = [None] * self.world
            torch.distributed.all_gather_object(lists, sentences)
        return [sentence for ones in lists for sentence in ones]

    def runner(self, network, compiled=False):
        """What runs the network forward, so that gradients are the whole batch's."""
        if self.world > 1:
            network = torch.nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
        return torch.compile(network) if compiled else network


@contextlib.contextmanager
def init_distributed():
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


def all_reduce(value, operation=torch.distributed.ReduceOp.SUM):
    """A number of this process's part of the batch → the whole batch's; no gradient."""
    value = value.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value, operation)
    return value


class SharedDropout(torch.nn.Module):
    """Dropout whose mask is drawn for the whole batch, whichever part of it is here.

    whole: drop a sample as one, as stochastic depth does (Huang et al. 2016).
    """

    def __init__(self, p, rank, world, whole=False):
        super().__init__()
        self.p, self.rank, self.world, self.whole = p, rank, world, whole

    def forward(self, x):
        if not self.training or not self.p:
            return x
        count = len(x)
        shape = [1] * (x.ndim - 1) if self.whole else x.shape[1:]
        kept = torch.rand((count * self.world, *shape), device=x.device) >= self.p
        return x * kept[self.rank * count:(self.rank + 1) * count] / (1 - self.p)


def _synced_batch_norm(module, x):
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
    with torch.no_grad():
        module.num_batches_tracked += 1
        module.running_mean.lerp_(mean.to(module.running_mean), module.momentum)
        module.running_var.lerp_((variance * count / (count - 1)).to(module.running_var),
                                 module.momentum)
    scale = module.weight * (variance + module.eps).rsqrt()
    shift = module.bias - mean * scale
    x = (exact * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)
    # timm's batch norms carry the activation that follows
    return module.act(module.drop(x)) if hasattr(module, 'act') else x


def sync_batch_norms(network, device):
    """Let every batch norm use the whole batch's statistics; returns the network."""
    if device.type == 'cuda':
        return timm.layers.convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.forward = partial(_synced_batch_norm, module)
    return network
