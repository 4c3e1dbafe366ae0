"""Networks of others that have a name here: where they are, whose they are, what they are good for.

What stands here is theirs: nothing of it was measured here, and nothing of it is a promise.
docs/models.md says which of it was read where.
"""

from dataclasses import dataclass

from hybrid_depth_ros.models.base import HYPERSIM, KITTI, NYU, VKITTI2, TrainingCamera

APACHE, MIT = 'Apache-2.0', 'MIT'
NO_TRADE = ('CC-BY-NC-4.0', 'Apple AMLR, for research')


@dataclass(frozen=True)
class HubNetwork:
    """address: on the hub. size: MB to download, None where it is not known. licence: of the
    weights. trained: on what. published: figures of their makers, or ''. camera: that it learnt
    metres through, or None. relative: it gives no metres.
    """

    address: str
    size: int | None
    licence: str
    trained: str
    published: str = ''
    camera: TrainingCamera | None = None
    relative: bool = False

    @property
    def note(self):
        """What the log says when it is loaded, or ''."""
        if self.licence in NO_TRADE:
            return f'its licence, {self.licence}, forbids commercial use'
        return ''


_INDOOR = 'Hypersim (rendered rooms), up to 20 m'
_OUTDOOR = 'Virtual KITTI 2 (rendered streets), up to 80 m'
_V1 = '1.5 M pictures with depth, 62 M without'
_V2 = '595 k rendered pictures, 62 M real ones without depth'
_V2_METRIC = 'hf:depth-anything/Depth-Anything-V2-Metric-'
_ALIGNED = 'after the best scale and shift: '

HUB_NAMES = {
    'depth-anything-v2-metric-indoor-small': HubNetwork(
        f'{_V2_METRIC}Indoor-Small-hf', 99, APACHE, _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-indoor-base': HubNetwork(
        f'{_V2_METRIC}Indoor-Base-hf', 390, NO_TRADE[0], _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-indoor-large': HubNetwork(
        f'{_V2_METRIC}Indoor-Large-hf', 1341, NO_TRADE[0], _INDOOR, camera=HYPERSIM),
    'depth-anything-v2-metric-outdoor-small': HubNetwork(
        f'{_V2_METRIC}Outdoor-Small-hf', 99, APACHE, _OUTDOOR, camera=VKITTI2),
    'depth-anything-v2-small': HubNetwork(
        'hf:depth-anything/Depth-Anything-V2-Small-hf', 99, APACHE, _V2, relative=True),
    'depth-anything-v2-base': HubNetwork(
        'hf:depth-anything/Depth-Anything-V2-Base-hf', 390, NO_TRADE[0], _V2, relative=True),
    'depth-anything-small': HubNetwork(
        'hf:LiheYoung/depth-anything-small-hf', 99, APACHE, _V1,
        f'NYU, {_ALIGNED}REL 0.053, δ1 0.972', relative=True),
    'depth-anything-large': HubNetwork(
        'hf:LiheYoung/depth-anything-large-hf', 1341, APACHE, _V1,
        f'NYU, {_ALIGNED}REL 0.043, δ1 0.981', relative=True),
    'dpt-large': HubNetwork(
        'hf:Intel/dpt-large', 1370, APACHE, 'MIX 6, 1.4 M pictures',
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
        'hf:apple/DepthPro-hf', 1900, NO_TRADE[1], 'real and rendered sets'),
}
