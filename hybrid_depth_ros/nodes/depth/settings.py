"""The depth node's parameters, and what several of them must be together."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.nodes.shared.parameters import Setting
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.predictor import FITS
from hybrid_depth_ros.runtimes.hardware import (
    PRECISIONS,
    RUNTIMES,
    choose_device,
    gpu_is_here,
)
from hybrid_depth_ros.weights import REGISTRY, weights_path
from hybrid_depth_ros.weights.hub import repository_and_revision
from hybrid_depth_ros.weights.registry import HUB, HUB_NAMES

SETTINGS = (
    Setting('autostart', True, 'configure and activate at the start; false: launch, nav2 or '
            '`ros2 lifecycle` does'),
    Setting('cameras', ('',), 'names of the cameras, a namespace each; one empty name: a single '
            'camera without'),
    Setting('weights', 'lite-nyu', 'registered name, hf:ORG/NAME, file or folder of the network '
            'weights', changeable=True),
    Setting('device', 'auto', 'auto, cpu, cuda or cuda:N', changeable=True),
    Setting('precision', 'auto', "the network's arithmetic; auto: the fastest that keeps accuracy",
            choices=PRECISIONS, changeable=True),
    Setting('runtime', 'auto', 'what runs the network; auto: the fastest that is installed',
            choices=RUNTIMES, changeable=True),
    Setting('fit', 'full', "full: the whole image; paper: the paper's centre crop, NaN outside",
            choices=FITS, changeable=True),
    Setting('focal_correction', True, "scale depth to the camera's focal length",
            changeable=True),
    Setting('sharpen', True, "let depth's outlines follow the image's", changeable=True),
    Setting('relative_depth', False, "publish what a network gives that has no metres, as "
            'depth/relative; false: such a network needs anchors'),
    Setting('image_transport', 'raw', 'listen to image (raw) or image/compressed (compressed)',
            choices=('raw', 'compressed')),
    Setting('depth_encoding', '32FC1', 'depth/image in metres (32FC1, NaN: unknown) or '
            'millimetres (16UC1, 0: unknown)', choices=('32FC1', '16UC1'), changeable=True),
    Setting('rectify', 'auto', 'undistort images first; auto: where camera_info has distortion '
            "and the image topic isn't called rect, as image_rect",
            choices=('auto', 'always', 'never'), changeable=True),
    Setting('horizontal_fov', 0.0, "the camera's field of view where no camera_info comes; "
            '0: unknown', range=(0.0, 179.0), unit='degrees', changeable=True),
    Setting('edge_filter', 0.05, "move cloud points at an object's outline, where inverse depth "
            'jumps by this share, to one of its sides; 0: none', range=(0.0, 1.0), changeable=True),
    Setting('cloud_stride', 1, 'every how many-th row and column becomes points',
            range=(1, 64), changeable=True),
    Setting('min_range', 0.0, 'nearest cloud point', range=(0.0, 100.0), unit='m',
            changeable=True),
    Setting('max_range', 0.0, 'farthest cloud point; 0: no limit', range=(0.0, 100.0), unit='m',
            changeable=True),
    Setting('voxel_size', 0.0, 'one cloud point for each cube of this side, not organised; '
            '0: all points', range=(0.0, 10.0), unit='m', changeable=True),
    Setting('max_uncertainty', 0.0, 'depth whose standard deviation is a larger share of it is '
            'unknown; 0: no limit', range=(0.0, 10.0), changeable=True),
    Setting('anchors', ('',), 'what measures true distances: scan, points, range, floor, motion; '
            'where there are several of a kind, scan/rear and so on'),
    Setting('anchor_poses', ('',), 'x y z roll pitch yaw of a sensor seen from the camera (m, '
            'degrees; x forward, y left, z up), one text for all or for each sensor; empty: by TF'),
    Setting('anchor_age', 0.5, "most that an anchor's stamp may lie from the image's",
            range=(0.0, 60.0), unit='s', changeable=True),
    Setting('anchor_time_constant', 0.5, 'what corrections are averaged over; 0: each image is by '
            'itself', range=(0.0, 60.0), unit='s', changeable=True),
    Setting('temporal_smoothing', False, "take out how the network's depth flickers, where no "
            'anchor gives it', changeable=True),
    Setting('fixed_frame', 'odom', 'TF frame that stays while the robot moves between an anchor '
            'and an image; empty: none', changeable=True),
    Setting('floor_frame', 'base_footprint', 'TF frame on the floor, for the anchor floor',
            changeable=True),
    Setting('camera_height', 0.0, 'of the camera above the floor, for the anchor floor; 0: by TF',
            range=(0.0, 100.0), unit='m', changeable=True),
    Setting('camera_pitch', 0.0, 'how far the camera looks down, with camera_height',
            range=(-90.0, 90.0), unit='degrees', changeable=True),
    Setting('camera_roll', 0.0, 'how far it is turned clockwise, as seen from behind, with '
            'camera_height', range=(-180.0, 180.0), unit='degrees', changeable=True),
    Setting('latency_warning', 0.5, 'latency that /diagnostics warns about; 0: none',
            range=(0.0, 3600.0), unit='s', changeable=True),
    Setting('snapshot_folder', '~/.ros/depth_snapshots', '~/snapshot writes a folder in here',
            changeable=True),
)
NETWORK_SETTINGS = ('weights', 'device', 'precision', 'runtime')


def network_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that make the network, by name."""
    return {name: settings[name] for name in NETWORK_SETTINGS}


def check_network(settings: Mapping[str, Any]) -> None:
    """Check in no time what names the network; whether it can be loaded shows when it is.

    Args:
        settings: The node's, by name.

    Raises:
        OSError: Where `weights` is no registered name and there is no such file or folder.
        ValueError: Where `weights` is no address on the hub, or there is no such device.
    """
    weights, device = settings['weights'], settings['device']
    if weights.startswith(HUB):
        repository_and_revision(weights)
    elif weights not in {**REGISTRY, **HUB_NAMES} and not (
            weights and expand_user(weights).is_dir()):
        weights_path(weights)
    if device.startswith('cuda') and gpu_is_here():
        if not re.fullmatch(r'cuda(:\d+)?', device, re.ASCII):
            raise ValueError(f'device {device!r} is none: use auto, cpu, cuda or cuda:N')
    else:
        choose_device(device)


def check_cameras(names: Sequence[str]) -> None:
    """Check that names can be the namespaces of one camera each.

    Raises:
        ValueError: Where they can't.
    """
    if list(names) == ['']:
        return
    for name in names:
        if not re.fullmatch(r'[A-Za-z]\w*', name, re.ASCII):
            raise ValueError(f'parameter cameras has the name {name!r}; a name is letters, digits '
                             'and _, starting with a letter')
    if not names or len(set(names)) != len(names):
        raise ValueError(f'parameter cameras is {list(names)}; give each camera one name')


def check_anchors(settings: Mapping[str, Any]
                  ) -> tuple[list[str], list[npt.NDArray[np.floating] | None]]:
    """Read what the parameters say of anchors.

    Args:
        settings: The node's, by name.

    Returns:
        Names of the sources, and their fixed poses, 4×4 or None.

    Raises:
        ValueError: Naming the parameter, where they will not do.
    """
    names = [name for name in settings['anchors'] if name]
    for name in names:
        if not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)?', name, re.ASCII):
            raise ValueError(f'parameter anchors has the source {name!r}; it is a kind, or a kind '
                             'and a name: scan/rear')
    try:
        poses = [read_pose(text) for text in settings['anchor_poses']]
        AnchorCorrector(names, poses)
    except ValueError as error:
        raise ValueError(f'parameters anchors and anchor_poses: {error}') from error
    return names, poses


def gives_metres(settings: Mapping[str, Any]) -> bool:
    """Whether the anchors can make metres of relative depth: the floor alone is found in metres."""
    return any(name and name != 'floor' for name in settings['anchors'])


def anchor_settings(settings: Mapping[str, Any]) -> AnchorSettings:
    """Return the parameters that say how anchors are used."""
    return AnchorSettings(
        settings['anchor_age'], settings['anchor_time_constant'], settings['temporal_smoothing'],
        settings['camera_height'], settings['camera_pitch'], settings['camera_roll'],
        settings['floor_frame'], settings['fixed_frame'])


def check_ranges(settings: Mapping[str, Any]) -> None:
    """Check that some point could be both far and near enough.

    Raises:
        ValueError: Where none could.
    """
    near, far = settings['min_range'], settings['max_range']
    if 0 < far <= near:
        raise ValueError(f'max_range {far:g} m is not above min_range {near:g} m; make it larger, '
                         'or 0 for no limit')
