"""Every form in which people have NYU Depth v2, and their own RGB-D data, as one dataset.

:func:`open_dataset` tells by what lies at a path which form it is. All are a
:class:`~train.datasets.pairs.RgbdDataset`; ``python -m train.prepare`` turns any of them into a
:class:`~train.datasets.memmap_store.MemmapStore`, which training reads fastest.
"""

from pathlib import Path

from hybrid_depth_ros.files import expand_user
from train.datasets.custom_pairs import BagPairs, PairList
from train.datasets.memmap_store import MemmapStore
from train.datasets.nyu import MAT, H5Tree, LabeledMat, SyncTree
from train.datasets.nyu_raw import RawScenes
from train.datasets.pairs import RgbdDataset
from train.datasets.raycast_rooms import PREFIX as ROOM_PREFIX
from train.datasets.raycast_rooms import VirtualRooms
from train.datasets.rendered_rooms import INDEX, RenderedRooms
from train.datasets.reprojected_views import (
    MOVED_PREFIX,
    NEARER_PREFIX,
    NearerViews,
    ReprojectedViews,
)
from train.datasets.tum import TumSequence, is_tum

# Where below its folder nyu_depth_v2 BTS has the official split, in the sync layout.
BTS = {'train': 'sync', 'test': 'official_splits/test'}


def is_recording(path: Path) -> bool:
    """Whether a path is a rosbag2 recording, or a recording of another form."""
    return (path.suffix in ('.mcap', '.db3', '.bag', '.zstd')
            or (path / 'metadata.yaml').is_file())


def open_dataset(path: str | Path, split: str = 'train', *, depth_scale: float | None = None,
                 image_topic: str | None = None, depth_topic: str | None = None) -> RgbdDataset:
    """The dataset at a path, whichever form it has.

    Args:
        path: A folder or file, ``room:FIRST-LAST``, or ``moved:PATH`` or ``nearer:PATH`` of
            any of these.
        split: ``train``, ``test`` or ``all``, where the form knows the official split (the
            labelled .mat, the HDF5 tree); the other forms are taken whole.
        depth_scale: Depth units in a metre, of a list or TUM's folders; by default 1000, and
            5000 for TUM's.
        image_topic, depth_topic: Of a recording, where it has several.

    Raises:
        OSError: Nothing is recognised. The message says what was looked for.
    """
    if str(path).startswith(ROOM_PREFIX):
        return VirtualRooms(str(path))
    for prefix, views in ((MOVED_PREFIX, ReprojectedViews), (NEARER_PREFIX, NearerViews)):
        if str(path).startswith(prefix):
            return views(open_dataset(
                str(path)[len(prefix):], split, depth_scale=depth_scale,
                image_topic=image_topic, depth_topic=depth_topic))
    path = Path(expand_user(path))
    if not path.exists():
        raise OSError(f'{path} does not exist; check the path given by --data')

    def holds(*patterns: str) -> bool:
        return any(True for pattern in patterns for _ in path.glob(pattern))
    if path.suffix == '.mat':
        return LabeledMat(path, split)
    if path.name == INDEX and (path.parent / 'settings.json').is_file():
        return RenderedRooms(path.parent)
    if is_tum(path):
        return TumSequence(path, depth_scale)
    if path.suffix in ('.csv', '.tsv', '.txt'):
        return PairList(path, depth_scale)
    if is_recording(path):
        return BagPairs(path, image_topic, depth_topic)
    if (path / 'store.json').is_file():
        return MemmapStore(path)
    if (path / INDEX).is_file():
        return RenderedRooms(path)
    if (path / MAT).is_file():
        return LabeledMat(path / MAT, split)
    if (path / BTS.get(split, '.')).is_dir():
        path /= BTS.get(split, '.')
    if holds('rgb_*.jpg', '*/rgb_*.jpg', 'rgb_*.png', '*/rgb_*.png'):
        return SyncTree(path)
    if holds('d-*.pgm', '*/d-*.pgm'):
        return RawScenes(path)
    if holds('*.h5', '*/*.h5', '*/*/*.h5'):
        return H5Tree(path, split)
    raise OSError(
        f'{path} is no RGB-D data known here. Looked for: {MAT}; a store of train.prepare '
        '(store.json); rooms of train.synthetic (frames.csv); rgb_NNNNN.jpg with '
        'sync_depth_NNNNN.png; raw scenes (r-*.ppm, d-*.pgm); '
        'SCENE/NNNNN.h5; a rosbag2 recording (metadata.yaml, .mcap, .db3); a list of '
        "image,depth (.csv, .txt); TUM's rgb.txt with depth.txt, or associations.txt; "
        'room:FIRST-LAST; moved:PATH or nearer:PATH of any of these')
