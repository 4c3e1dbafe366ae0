"""Depthwise convolutions with a backward pass that is fast on a CPU.

oneDNN has fast gradients for 3×3 depthwise kernels only; here the same sums are asked for in
another way. What that brings stands in train/RESULTS.md.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import nn


class _Depthwise(torch.autograd.Function):
    """conv2d(x, weight, stride=stride, groups=channels), x padded already; same gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int  # type: ignore
                ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor  # type: ignore[override]
                 ) -> tuple[torch.Tensor, torch.Tensor, None]:
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        channels, _, size, _ = weight.shape
        height, width = gradient.shape[-2:]
        # 5×5 weight gradients as four overlapping 3×3 ones
        of_weight, tile = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
        for top in {0, size - 3}:
            for left in {0, size - 3}:
                seen = x[:, :, top:top + stride * (height - 1) + 3,
                         left:left + stride * (width - 1) + 3]
                of_weight[:, :, top:top + 3, left:left + 3] = torch.ops.aten.convolution_backward(
                    gradient, seen.contiguous(memory_format=torch.channels_last), tile, None,
                    (stride, stride), (0, 0), (1, 1), False, (0, 0), channels,
                    (False, True, False))[1]
        # the gradient of x is a forward convolution with the turned kernel
        if stride > 1:
            spread = gradient.new_zeros(
                (*gradient.shape[:2], stride * (height - 1) + 1, stride * (width - 1) + 1)
            ).contiguous(memory_format=torch.channels_last)
            spread[:, :, ::stride, ::stride] = gradient
            gradient = spread
        of_x = F.conv2d(gradient, weight.flip(2, 3), padding=size - 1, groups=channels)
        # rows and columns that no kernel position reached
        rest = (0, x.shape[3] - of_x.shape[3], 0, x.shape[2] - of_x.shape[2])
        return F.pad(of_x, rest) if any(rest) else of_x, of_weight, None


def _forward(module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    if isinstance(module, Conv2dSame):
        x = pad_same(x, list(module.kernel_size), list(module.stride))
    else:
        assert not isinstance(module.padding, str)  # timm's are numbers
        rows, columns = module.padding
        x = F.pad(x, (columns, columns, rows, rows))
    weight = module.weight
    if torch.is_autocast_enabled('cpu'):
        kind = torch.get_autocast_dtype('cpu')
        x, weight = x.to(kind), weight.to(kind)
    return _Depthwise.apply(x, weight, module.stride[0])


def speed_up_depthwise(network: nn.Module) -> nn.Module:
    """Let a network's slow depthwise convolutions, 5×5 or with a stride, train fast on a CPU.

    The forward pass and the parameters stay what they are, the gradients are the same to
    rounding. Returns the network.
    """
    for module in network.modules():
        if (isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
                and module.weight.requires_grad and module.bias is None
                and (module.kernel_size == (5, 5)
                     or (module.kernel_size == (3, 3) and module.stride == (2, 2)))):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]
    return network
