"""Names of weights: this package's own, and networks of others on the Hugging Face hub.

Figures and licences of the others are their makers'; nothing of them was measured here.
docs/models.md says where each was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hybrid_depth_ros.files import cache_folder

DATA = Path(__file__).parent.parent / 'data'
HELD_OUT = [[129, 166], [1340, 1383]]  # frames of NYU Depth v2 that lite-nyu never saw

HUB = 'hf:'  # the prefix of a name on the hub
HUB_FILES = ('config.json', 'preprocessor_config.json', 'model.safetensors')
INDEX_FILE = 'model.safetensors.index.json'  # in its place, where tensors lie in several files

APACHE, MIT = 'Apache-2.0', 'MIT'
NON_COMMERCIAL = ('CC-BY-NC-4.0', 'Apple AMLR, for research')


class TrainingCamera(NamedTuple):
    """The camera through which a network learned metric depth: focal length and size in pixels."""

    fx: float
    width: int
    height: int


NYU = TrainingCamera(518.858, 640, 480)         # Silberman et al. 2012, the colour camera
HYPERSIM = TrainingCamera(886.81, 1024, 768)    # Roberts et al. 2021, a field of view of 60°
KITTI = TrainingCamera(721.5377, 1242, 375)     # Geiger et al. 2012, camera 2 of most drives
VKITTI2 = TrainingCamera(725.0087, 1242, 375)   # Cabon et al. 2020


@dataclass(frozen=True)
class RegisteredWeights:
    """A weights file of this package's own networks that has a name.

    Attributes:
        file: Name of the file.
        address: Where it is downloaded from; None: it lies in the package.
        sha256: Digest of a downloaded file, None where it is not known.
    """

    file: str
    address: str | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie once it is downloaded."""
        return (cache_folder() if self.address else DATA) / self.file


REGISTRY = {
    'lite-nyu': RegisteredWeights('lite-nyu.safetensors'),
    # From the authors' network.py in github.com/karoly-hars/DE_resnet_unet_hyb; dl=1 because
    # Dropbox otherwise answers with a web page.
    'paper-nyu': RegisteredWeights(
        'hyb_net_weights.model',
        'https://www.dropbox.com/s/amad4ko9opi4kts/hyb_net_weights.model?dl=1'),
}


@dataclass(frozen=True)
class HubNetwork:
    """A network on the hub that has a name here.

    Attributes:
        address: Its name on the hub, ``hf:ORG/NAME``.
        size: Megabytes to download, None where it is not known.
        licence: Licence of the weights.
        trained: What it was trained on.
        published: Figures published by its makers, or an empty text.
        camera: The camera through which it learned metric depth, or None.
        relative: Whether it gives relative depth instead of metres.
    """

    address: str
    size: int | None
    licence: str
    trained: str
    published: str = ''
    camera: TrainingCamera | None = None
    relative: bool = False

    @property
    def note(self) -> str:
        """A sentence for the log when the network is loaded, or an empty text."""
        if self.licence in NON_COMMERCIAL:
            return f'its licence, {self.licence}, forbids commercial use'
        return ''


_INDOOR = 'Hypersim (rendered rooms), up to 20 m'
_OUTDOOR = 'Virtual KITTI 2 (rendered streets), up to 80 m'
_V1 = '1.5 M images with depth, 62 M without'
_V2 = '595 k rendered images, 62 M real ones without depth'
_V2_METRIC = 'hf:depth-anything/Depth-Anything-V2-Metric-'
_ALIGNED = 'after the best scale and shift: '

HUB_NAMES = {
    'depth-anything-v2-metric-indoor-small': HubNetwork(
        f'{_V2_METRIC}Indoor-Small-hf', 99, APACHE, _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-indoor-base': HubNetwork(
        f'{_V2_METRIC}Indoor-Base-hf', 390, NON_COMMERCIAL[0], _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-indoor-large': HubNetwork(
        f'{_V2_METRIC}Indoor-Large-hf', 1341, NON_COMMERCIAL[0], _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-outdoor-small': HubNetwork(
        f'{_V2_METRIC}Outdoor-Small-hf', 99, APACHE, _OUTDOOR, camera=VKITTI2),
    'depth-anything-v2-small': HubNetwork(
        'hf:depth-anything/Depth-Anything-V2-Small-hf', 99, APACHE, _V2, relative=True),
    'depth-anything-v2-base': HubNetwork(
        'hf:depth-anything/Depth-Anything-V2-Base-hf', 390, NON_COMMERCIAL[0], _V2, relative=True),
    'depth-anything-small': HubNetwork(
        'hf:LiheYoung/depth-anything-small-hf', 99, APACHE, _V1,
        f'NYU, {_ALIGNED}REL 0.053, δ1 0.972', relative=True),
    'depth-anything-large': HubNetwork(
        'hf:LiheYoung/depth-anything-large-hf', 1341, APACHE, _V1,
        f'NYU, {_ALIGNED}REL 0.043, δ1 0.981', relative=True),
    'dpt-large': HubNetwork(
        'hf:Intel/dpt-large', 1370, APACHE, 'MIX 6, 1.4 M images',
        f'NYU, {_ALIGNED}δ1 0.917', relative=True),
    'zoedepth-nyu': HubNetwork(
        'hf:Intel/zoedepth-nyu', 1380, MIT, '12 sets without metres, then NYU Depth v2',
        "NYU: REL 0.077, δ1 0.951 (in Depth Anything's README)", camera=NYU),
    'zoedepth-kitti': HubNetwork(
        'hf:Intel/zoedepth-kitti', 1380, MIT, '12 sets without metres, then KITTI',
        "KITTI: REL 0.054, δ1 0.971 (in Depth Anything's README)", camera=KITTI),
    'zoedepth-nyu-kitti': HubNetwork(
        'hf:Intel/zoedepth-nyu-kitti', 1380, MIT,
        '12 sets without metres, then NYU Depth v2 and KITTI'),
    'glpn-nyu': HubNetwork(
        'hf:vinvino02/glpn-nyu', 245, APACHE, 'NYU Depth v2', camera=NYU),
    'depth-pro': HubNetwork(
        'hf:apple/DepthPro-hf', 1900, NON_COMMERCIAL[1], 'real and rendered sets'),
}
