"""How far depth may be off: a head on the features of the depth network.

It has two parts. One sorts the pixels of an image. The other knows how unlike the images that depth
was trained on the whole image is: a network takes a strange place for one that it knows, and errs
in scale everywhere in it.
"""

import torch
import torch.nn.functional as F
from torch import nn

MIN_DEPTH = 0.05        # m; nearer depths count as this in a logarithm
USUAL_LOG_SIGMA = -2.0  # a relative standard deviation of 0.14: what an untrained head says
COMPONENTS = 32         # principal components of the features in which an image's distance counts
LEAST_SQUARE = 1e-3     # of a distance, so that it has a logarithm
SUREST = -0.1           # the least that is added to log σ: familiar is a tenth surer at most
FARTHEST = 4.0          # log distance beyond which nothing was ever seen; farther counts as this


def mean_and_spread(features: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of each channel over the image: (N, C, h, w) → (N, 2C)."""
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().mean((2, 3))
    return torch.cat((mean.flatten(1), (variance + 1e-8).sqrt()), dim=1)


class Unfamiliarity(nn.Module):
    """What is added to log σ of a whole image: the more, the stranger the image is.

    It sees how far the image's features lie from those of familiar images: their Mahalanobis
    distance within the COMPONENTS principal components, and how much lies beside these. It also
    sees the mean and the spread of log depth. It adds SUREST at least. Fresh, it adds nothing.

    Source: Lee et al., *A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks*, NeurIPS 2018, equation 2, for one class.

    Args:
        count: numbers that describe an image, two of each channel of the features.
    """

    centre: torch.Tensor
    scale: torch.Tensor
    components: torch.Tensor
    deviations: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        for name, values in (('centre', torch.zeros(count)), ('scale', torch.ones(count)),
                             ('components', torch.zeros(COMPONENTS, count)),
                             ('deviations', torch.ones(COMPONENTS))):
            self.register_buffer(name, values)
        self.factor = nn.Linear(4, 1)
        nn.init.zeros_(self.factor.weight)
        nn.init.zeros_(self.factor.bias)

    @torch.no_grad()
    def learn_familiar(self, described: torch.Tensor) -> None:
        """Set what is familiar from the numbers of many images, (N, count)."""
        self.centre.copy_(described.mean(0))
        spread = described.std(0)
        self.scale.copy_(spread.clamp_min(float(spread.median()) / 20))  # some hardly ever change
        _, values, directions = torch.linalg.svd((described - self.centre) / self.scale,
                                                 full_matrices=False)
        count = min(COMPONENTS, len(values))  # where there are fewer images, the others stay 0
        self.components.zero_()[:count] = directions[:count]
        self.deviations[:count] = values[:count].clamp_min(1e-3) / len(described) ** 0.5

    def describe(self, features: list[torch.Tensor], log_depth: torch.Tensor) -> torch.Tensor:
        """The four numbers that :attr:`factor` weighs: (N, 4)."""
        numbers = (torch.cat([mean_and_spread(one) for one in features], dim=1)
                   - self.centre) / self.scale
        inside = F.linear(numbers, self.components)
        beside = numbers.square().sum(1) - inside.square().sum(1)
        squares = torch.stack(((inside / self.deviations).square().mean(1),
                               beside.clamp_min(0) / numbers.shape[1]), dim=1)
        distances = (squares + LEAST_SQUARE).log() / 2
        return torch.cat((distances.clamp_max(FARTHEST), mean_and_spread(log_depth)), dim=1)

    def forward(self, features: list[torch.Tensor], log_depth: torch.Tensor) -> torch.Tensor:
        """The head's features and log depth (N, 1, h, w) → (N, 1, 1, 1)."""
        added: torch.Tensor = self.factor(self.describe(features, log_depth)).clamp_min(SUREST)
        return added[:, :, None, None]


class UncertaintyHead(nn.Module):
    """Log of the standard deviation / depth, from the decoder's features.

    It sees the features at an eighth and a quarter of the image's size, depth itself, and the mean
    of the encoder's features over the whole image.

    Args:
        whole, eighth, quarter: channels of the three.

    Attributes:
        unfamiliarity: None until :meth:`add_unfamiliarity`. It holds for a network whose features
            do not change any more.
    """

    unfamiliarity: Unfamiliarity | None

    def __init__(self, whole: int, eighth: int, quarter: int, hidden: int = 16):
        super().__init__()
        self.whole = nn.Conv2d(whole, hidden, 1)
        self.eighth = nn.Conv2d(eighth, hidden, 1)
        self.quarter = nn.Conv2d(quarter + 1, hidden, 1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, 1, 1)
        for tensor, value in zip(self.last.parameters(), (0.0, USUAL_LOG_SIGMA)):
            nn.init.constant_(tensor, value)
        self.unfamiliarity = None
        self._count = 2 * (whole + eighth + quarter)

    def add_unfamiliarity(self) -> Unfamiliarity:
        """A fresh one, in place of what was there."""
        self.unfamiliarity = Unfamiliarity(self._count)
        return self.unfamiliarity

    def forward(self, whole: torch.Tensor, eighth: torch.Tensor, quarter: torch.Tensor,
                depth: torch.Tensor) -> torch.Tensor:
        """Features (N, channels, H/32, W/32), (…, H/8, W/8), (…, H/4, W/4) and depth (N, 1, H/2,
        W/2) → (N, 1, H/2, W/2)."""
        log_depth = F.avg_pool2d(depth.clamp_min(MIN_DEPTH), 2).log()
        x = self.quarter(torch.cat((quarter, log_depth), dim=1)) + F.interpolate(
            self.eighth(eighth), scale_factor=2.0, mode='bilinear') + self.whole(
            whole.mean((2, 3), keepdim=True))
        x = self.last(F.relu(self.mix(F.relu(x))))
        if self.unfamiliarity is not None:
            x = x + self.unfamiliarity([whole, eighth, quarter], log_depth)
        return F.interpolate(x, scale_factor=2.0, mode='bilinear')
