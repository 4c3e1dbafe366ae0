"""The hybrid depth network: encoder, up-projection decoder, lateral connections.

One family for every size: a timm encoder, the up-projection decoder of Laina et al.
(*Deeper Depth Prediction with Fully Convolutional Residual Networks*, 3DV 2016,
section 3), and the U-Net style lateral connections that Harsányi et al. (*A Hybrid CNN
Approach for Single Image Depth Estimation*, 2018) add to it: concatenate the encoder's
feature map of the same size, then a 1×1 convolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn

from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.uncertainty_head import UncertaintyHead

# encoder name → (timm model, decoder width after the 1×1 reduction)
ENCODERS = {
    'resnet50': ('resnet50', 1024),
    'efficientnet_lite0': ('tf_efficientnet_lite0', 256),
    'efficientnet_lite1': ('tf_efficientnet_lite1', 256),
    'efficientnet_lite2': ('tf_efficientnet_lite2', 256),
}


class Unpooling(nn.Module):
    """Double the resolution by four interleaved convolutions: (N, in, H, W) → (N, out, 2H, 2W).

    Convolutions A (3×3), B (2×3), C (3×2) and D (2×2) read the same input; the output's
    even columns hold A on even rows and B on odd rows, its odd columns C on even rows and
    D on odd rows.

    Source:
        Laina et al., figure 3.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_A: Any = nn.Conv2d(in_channels, out_channels, (3, 3))
        self.conv_B: Any = nn.Conv2d(in_channels, out_channels, (2, 3))
        self.conv_C: Any = nn.Conv2d(in_channels, out_channels, (3, 2))
        self.conv_D: Any = nn.Conv2d(in_channels, out_channels, (2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.conv_A(F.pad(x, (1, 1, 1, 1)))
        b = self.conv_B(F.pad(x, (1, 1, 0, 1)))
        c = self.conv_C(F.pad(x, (0, 1, 1, 1)))
        d = self.conv_D(F.pad(x, (0, 1, 0, 1)))
        # pixel_shuffle reads channel 4c + 2·row + column
        return F.pixel_shuffle(torch.stack((a, c, b, d), dim=2).flatten(1, 2), 2)

    def fused(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same map as one 3×3 convolution before a pixel shuffle.

        The smaller kernels are 3×3 kernels with a row or column of zeros.

        Returns:
            Weight (4·out, in, 3, 3) and bias (4·out,), differentiable in the four convolutions.
        """
        weight = torch.stack((
            self.conv_A.weight,
            F.pad(self.conv_C.weight, (1, 0)),
            F.pad(self.conv_B.weight, (0, 0, 1, 0)),
            F.pad(self.conv_D.weight, (1, 0, 1, 0)),
        ), dim=1).flatten(0, 1)
        bias = torch.stack(
            (self.conv_A.bias, self.conv_C.bias, self.conv_B.bias, self.conv_D.bias), dim=1)
        return weight, bias.flatten()

    @torch.no_grad()
    def load_fused(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Set the four convolutions from :meth:`fused`'s weight and bias."""
        a, c, b, d = weight.unflatten(0, (-1, 4)).unbind(1)
        self.conv_A.weight.copy_(a)
        self.conv_B.weight.copy_(b[..., 1:, :])
        self.conv_C.weight.copy_(c[..., 1:])
        self.conv_D.weight.copy_(d[..., 1:, 1:])
        for conv, values in zip((self.conv_A, self.conv_C, self.conv_B, self.conv_D),
                                bias.unflatten(0, (-1, 4)).unbind(1)):
            conv.bias.copy_(values)


class FusedUnpooling(nn.Module):
    """Both unpoolings of an up-projection as one 3×3 convolution and a pixel shuffle.

    (N, in, H, W) → (N, 2·out, 2H, 2W): the main branch's channels, then the residual's.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv: Any = nn.Conv2d(in_channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class UpProjection(nn.Module):
    """Up-projection: (N, in, H, W) → (N, out, 2H, 2W).

    Main branch: unpool, batch norm, ReLU, 3×3 convolution, batch norm. Residual branch:
    unpool, batch norm. Their sum, then ReLU.

    Source:
        Laina et al., figure 4.
    """

    unpool_main: Unpooling | None
    unpool_residual: Unpooling | None
    unpool_fused: FusedUnpooling | None

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.unpool_main = Unpooling(in_channels, out_channels)
        self.unpool_residual = Unpooling(in_channels, out_channels)
        self.unpool_fused = None
        self.main_bn1 = nn.BatchNorm2d(out_channels)
        self.main_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.main_bn2 = nn.BatchNorm2d(out_channels)
        self.residual_bn = nn.BatchNorm2d(out_channels)
        self.fused_training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.unpool_fused is not None:
            main, residual = self.unpool_fused(x).chunk(2, dim=1)
        elif self.fused_training:
            weight, bias = self._fused()
            # chunks are strided: batch norm takes eight times as long on them
            main, residual = (half.contiguous(memory_format=torch.channels_last) for half in
                              F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), 2).chunk(2, 1))
        else:
            assert self.unpool_main is not None
            assert self.unpool_residual is not None
            main, residual = self.unpool_main(x), self.unpool_residual(x)
        main = self.main_bn2(self.main_conv(F.relu(self.main_bn1(main))))
        return F.relu(main + self.residual_bn(residual))

    def _fused(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of both unpoolings as one."""
        assert self.unpool_main is not None
        assert self.unpool_residual is not None
        main, residual = self.unpool_main.fused(), self.unpool_residual.fused()
        return torch.cat((main[0], residual[0])), torch.cat((main[1], residual[1]))

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace the eight unpooling convolutions by one; exact."""
        if self.unpool_fused is not None:
            return
        weight, bias = self._fused()
        fused = FusedUnpooling(weight.shape[1], weight.shape[0] // 8).to(weight)
        fused.conv.weight.copy_(weight)
        fused.conv.bias.copy_(bias)
        self.unpool_main = self.unpool_residual = None
        self.unpool_fused = fused.train(self.training)

    @torch.no_grad()
    def unfuse(self) -> None:
        """Bring the eight unpooling convolutions back; exact."""
        if self.unpool_fused is None:
            return
        weight, bias = self.unpool_fused.conv.weight, self.unpool_fused.conv.bias
        branches = []
        for half, half_bias in zip(weight.chunk(2), bias.chunk(2)):
            branch = Unpooling(weight.shape[1], weight.shape[0] // 8).to(weight)
            branch.load_fused(half, half_bias)
            branches.append(branch.train(self.training))
        self.unpool_main, self.unpool_residual = branches
        self.unpool_fused = None


class Lateral(nn.Conv2d):
    """A lateral connection: concatenate, then a 1×1 convolution.

    The encoder's (N, skip, H, W) and the decoder's (N, narrow, H, W) → (N, narrow, H, W).

    Source:
        Harsányi et al. 2018, section 3.
    """

    def __init__(self, skip: int, narrow: int) -> None:
        super().__init__(skip + narrow, narrow, 1)
        # the sum of two convolutions with one half of the weight each: the same map
        self.split = False

    def forward(self, skip: torch.Tensor,  # type: ignore[override]
                x: torch.Tensor) -> torch.Tensor:
        if not self.split:
            return super().forward(torch.cat((skip, x), dim=1))
        count = skip.shape[1]
        return (F.conv2d(x, self.weight[:, count:], self.bias)
                + F.conv2d(skip, self.weight[:, :count]))


class HybridDepthNet(nn.Module):
    """RGB to metric depth, fully convolutional.

    Input: float (N, 3, H, W), RGB normalised by the constants of
    :mod:`hybrid_depth_ros.imagenet`,
    H and W multiples of 32 (the paper: 256 × 320). Output: (N, 1, H/2, W/2), metres, ≥ 0.

    ``load_state_dict`` also takes the paper authors' published names as they are.

    Args:
        encoder: a key of ``ENCODERS``; ``resnet50`` is the paper's network, 64,614,017
            parameters, ``efficientnet_lite2`` the lite variant, 6,865,873.
        lateral: False leaves the lateral connections out, which is the network of Laina et
            al., the paper's baseline (Table 1).
        dropout: probability of the dropout before the last convolution.
        uncertainty: estimate the standard deviation of depth too: a second channel, the natural
            logarithm of the standard deviation / depth. Depth is the same with and without.

    Raises:
        ValueError: the encoder is unknown.
    """

    encoder: Any
    reduction: Any
    dropout: nn.Module
    head: Any
    uncertainty: UncertaintyHead | None

    def __init__(self, encoder: str = 'resnet50', lateral: bool = True, dropout: float = 0.5,
                 uncertainty: bool = False) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise ValueError(f'unknown encoder {encoder!r}: choose one of {", ".join(ENCODERS)}')
        self.encoder_name, self.lateral = encoder, lateral
        timm_name, width = ENCODERS[encoder]
        self.encoder = timm.create_model(timm_name, pretrained=False, features_only=True)
        channels = self.encoder.feature_info.channels()  # strides 2, 4, 8, 16, 32
        self.reduction = nn.Conv2d(channels[-1], width, 1)
        self.reduction_bn = nn.BatchNorm2d(width)
        widths = [width >> i for i in range(5)]
        self.up_projections: Any = nn.ModuleList(
            UpProjection(wide, narrow) for wide, narrow in zip(widths, widths[1:]))
        self.laterals: Any = nn.ModuleList(
            Lateral(skip, narrow)
            for skip, narrow in zip(channels[-2::-1], widths[1:])) if lateral else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.uncertainty = UncertaintyHead(widths[0], widths[2], widths[3]) if uncertainty else None
        self.register_load_state_dict_pre_hook(_rename_published)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        depth, features = self.depth_and_features(x)
        if self.uncertainty is None:
            return depth
        # detached, so that depth does not pay for it
        log_sigma = self.uncertainty(*(one.detach() for one in (*features, depth)))
        return torch.cat((depth, log_sigma), dim=1)

    def depth_and_features(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Depth (N, 1, H/2, W/2), and the features that :class:`UncertaintyHead` sees."""
        *skips, x = self.encoder(x)
        x = self.reduction_bn(self.reduction(x))
        features = [x]
        for i, up_projection in enumerate(self.up_projections):
            x = up_projection(x)
            if self.laterals is not None:
                x = self.laterals[i](skips[-1 - i], x)
            features.append(x)
        whole, _, eighth, quarter, last = features
        return F.relu(self.head(self.dropout(last))), [whole, eighth, quarter]

    def fuse(self) -> HybridDepthNet:
        """Run unpoolings as one convolution, lateral connections without a concatenation; exact.

        In int8, concatenated tensors share one scale, and the encoder's numbers are up to ten times
        as large as the decoder's.

        Returns:
            The network itself.
        """
        for up_projection in self.up_projections:
            up_projection.fuse()
        return self._split_laterals(True)

    def unfuse(self) -> HybridDepthNet:
        """Undo :meth:`fuse`, and return the network itself; exact."""
        for up_projection in self.up_projections:
            up_projection.unfuse()
        return self._split_laterals(False)

    def _split_laterals(self, split: bool) -> HybridDepthNet:
        for lateral in self.laterals or ():
            lateral.split = split
        return self

    def train_fused(self, enable: bool = True) -> HybridDepthNet:
        """Compute the unpoolings in fused form while the parameters stay unfused."""
        for up_projection in self.up_projections:
            up_projection.fused_training = enable
        return self


class FromPixels(nn.Module):
    """A network from uint8 N×H×W×3 pixels, H and W multiples of 32, to float32 N×H/2×W/2 metres.

    With an uncertainty head it gives N×2×H/2×W/2, the network's two channels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in (('mean', IMAGENET_MEAN), ('std', IMAGENET_STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        batch = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std  # still lies as the pixels do
        output = self.network(batch).float()
        return output if output.shape[1] == 2 else output[:, 0]


# The published state dict names each unpooling twice (531 tensors, 435 of them distinct).
_PUBLISHED_TWINS = re.compile(r'^up_proj\d\.(main|residual)_branch\.0\.')
_PUBLISHED_NAMES = [(re.compile(pattern), ours) for pattern, ours in (
    (r'^(conv1|bn1|layer\d)\.', r'encoder.\1.'),
    (r'^conv2\.', 'reduction.'),
    (r'^bn2\.', 'reduction_bn.'),
    (r'^conv3\.', 'head.'),
    (r'^con_conv(\d)\.conv\.', r'laterals.\1.'),
    (r'^up_proj(\d)\.unpool_main\.', r'up_projections.\1.unpool_main.'),
    (r'^up_proj(\d)\.unpool_res\.', r'up_projections.\1.unpool_residual.'),
    (r'^up_proj(\d)\.main_branch\.1\.', r'up_projections.\1.main_bn1.'),
    (r'^up_proj(\d)\.main_branch\.3\.', r'up_projections.\1.main_conv.'),
    (r'^up_proj(\d)\.main_branch\.4\.', r'up_projections.\1.main_bn2.'),
    (r'^up_proj(\d)\.residual_branch\.1\.', r'up_projections.\1.residual_bn.'),
)]


def is_published(state_dict: Mapping[str, Any]) -> bool:
    """Whether the names are those of the paper authors' checkpoint."""
    return 'up_proj1.unpool_main.conv_A.weight' in state_dict


def _rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str,
                      *_: Any) -> None:
    if not is_published(state_dict):
        return
    for name in list(state_dict):
        tensor = state_dict.pop(name)
        if _PUBLISHED_TWINS.match(name):
            continue
        for pattern, ours in _PUBLISHED_NAMES:
            renamed, count = pattern.subn(ours, name)
            if count:
                # published numbering starts at 1
                name = re.sub(r'^(up_projections|laterals)\.(\d)',
                              lambda m: f'{m[1]}.{int(m[2]) - 1}', renamed)
                break
        state_dict[name] = tensor
