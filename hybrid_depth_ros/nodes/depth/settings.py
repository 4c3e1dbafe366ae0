"""The depth node's parameters, and what several of them must be together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings
from hybrid_depth_ros.compressed_depth import FORMATS
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.nodes.shared.parameters import parameter, settings_of
from hybrid_depth_ros.obstacles import ObstacleSettings
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.predictor import FITS, PredictionOptions
from hybrid_depth_ros.runtimes.hardware import (
    PRECISIONS,
    RUNTIMES,
    choose_device,
    gpu_is_here,
)
from hybrid_depth_ros.weights import REGISTRY, weights_path
from hybrid_depth_ros.weights.hub import repository_and_revision
from hybrid_depth_ros.weights.registry import HUB, HUB_NAMES


@dataclass(frozen=True)
class NetworkSettings:
    """The parameters that make the network, as :class:`DepthSettings` has them."""

    weights: str
    device: str
    precision: str
    runtime: str


@dataclass(frozen=True)
class DepthSettings:
    """The depth node's parameters."""

    autostart: bool = parameter(
        True, 'configure and activate at the start; false: launch, nav2 or `ros2 lifecycle` does')
    cameras: tuple[str, ...] = parameter(
        ('',), 'names of the cameras, a namespace each; one empty name: a single camera without')
    weights: str = parameter(
        'lite-nyu', 'registered name, hf:ORG/NAME, file or folder of the network weights',
        changeable=True)
    device: str = parameter('auto', 'auto, cpu, cuda or cuda:N', changeable=True)
    precision: str = parameter(
        'auto', "the network's arithmetic; auto: the fastest that keeps accuracy",
        choices=PRECISIONS, changeable=True)
    runtime: str = parameter(
        'auto', 'what runs the network; auto: the fastest that is installed', choices=RUNTIMES,
        changeable=True)
    fit: str = parameter(
        'full', "full: the whole image; paper: the paper's centre crop, NaN outside", choices=FITS,
        changeable=True)
    focal_correction: bool = parameter(
        True, "scale depth to the camera's focal length", changeable=True)
    sharpen: bool = parameter(True, "let depth's outlines follow the image's", changeable=True)
    ignore_border: bool = parameter(
        True, 'leave out bars or a frame around the scene, found over several images; depth is '
        'unknown there', changeable=True)
    relative_depth: bool = parameter(
        False, 'publish what a network gives that has no metres, as depth/relative; false: such a '
        'network needs anchors')
    image_transport: str = parameter(
        'raw', 'listen to image (raw) or image/compressed (compressed)',
        choices=('raw', 'compressed'))
    optical_frame: str = parameter(
        '', 'frame_id that images should have: the node warns where it is another, which TF may '
        'not know; empty: any', changeable=True)
    depth_encoding: str = parameter(
        '32FC1', 'depth/image in metres (32FC1, NaN: unknown) or millimetres (16UC1, 0: unknown)',
        choices=('32FC1', '16UC1'), changeable=True)
    compressed_depth_format: str = parameter(
        'png', 'how depth/image/compressedDepth is compressed; rvl is faster', choices=FORMATS,
        changeable=True)
    depth_max: float = parameter(
        100.0, 'farthest depth in depth/image/compressedDepth', range=(1.0, 100.0), unit='m',
        changeable=True)
    depth_quantization: float = parameter(
        100.0, 'depth at which depth/image/compressedDepth of 32FC1 is a metre exact; nearer it is '
        'more exact, by the square', range=(1.0, 150.0), unit='m', changeable=True)
    rectify: str = parameter(
        'auto', 'undistort images first; auto: where camera_info has distortion and the image '
        "topic isn't called rect, as image_rect", choices=('auto', 'always', 'never'),
        changeable=True)
    horizontal_fov: float = parameter(
        0.0, "the camera's field of view where no camera_info comes; 0: unknown",
        range=(0.0, 179.0), unit='degrees', changeable=True)
    edge_filter: float = parameter(
        0.05, "move cloud points at an object's outline, where inverse depth jumps by this share, "
        'to one of its sides; 0: none', range=(0.0, 1.0), changeable=True)
    cloud_stride: int = parameter(
        1, 'every how many-th row and column becomes points', range=(1, 64), changeable=True)
    min_range: float = parameter(
        0.0, 'nearest cloud point', range=(0.0, 100.0), unit='m', changeable=True)
    max_range: float = parameter(
        0.0, 'farthest cloud point; 0: no limit', range=(0.0, 100.0), unit='m', changeable=True)
    voxel_size: float = parameter(
        0.0, 'one cloud point for each cube of this side, not organised; 0: all points',
        range=(0.0, 10.0), unit='m', changeable=True)
    cloud_confidence: bool = parameter(
        False, "add the field intensity to the cloud: 1 - depth's standard deviation / depth",
        changeable=True)
    max_uncertainty: float = parameter(
        0.0, 'depth whose standard deviation is a larger share of it is unknown; 0: no limit',
        range=(0.0, 10.0), changeable=True)
    anchors: tuple[str, ...] = parameter(
        ('',), 'what measures true distances: scan, points, range, depth, floor, motion; where '
        'there are several of a kind, scan/rear and so on')
    anchor_poses: tuple[str, ...] = parameter(
        ('',), 'x y z roll pitch yaw of a sensor seen from the camera (m, degrees; x forward, y '
        'left, z up), one text for all or for each sensor; empty: by TF')
    anchor_min_range: float = parameter(
        0.0, 'nearest that the depth camera of anchors/depth can measure', range=(0.0, 100.0),
        unit='m', changeable=True)
    anchor_max_range: float = parameter(
        0.0, 'farthest that it can; 0: no limit', range=(0.0, 100.0), unit='m', changeable=True)
    anchor_age: float = parameter(
        0.5, "most that an anchor's stamp may lie from the image's; of a depth image 0.1 at most",
        range=(0.0, 60.0), unit='s', changeable=True)
    anchor_time_constant: float = parameter(
        0.5, 'what corrections are averaged over; 0: each image is by itself', range=(0.0, 60.0),
        unit='s', changeable=True)
    temporal_smoothing: bool = parameter(
        False, "take out how the network's depth flickers, where no anchor gives it",
        changeable=True)
    fixed_frame: str = parameter(
        'odom', 'TF frame that stays while the robot moves between an anchor and an image; empty: '
        'none', changeable=True)
    floor_frame: str = parameter(
        'base_footprint', 'TF frame on the floor, for obstacles and the anchor floor',
        changeable=True)
    camera_height: float = parameter(
        0.0, 'of the camera above the floor, for obstacles and the anchor floor; 0: by TF',
        range=(0.0, 100.0), unit='m', changeable=True)
    camera_pitch: float = parameter(
        0.0, 'how far the camera looks down, with camera_height', range=(-90.0, 90.0),
        unit='degrees', changeable=True)
    camera_roll: float = parameter(
        0.0, 'how far it is turned clockwise, as seen from behind, with camera_height',
        range=(-180.0, 180.0), unit='degrees', changeable=True)
    min_obstacle_height: float = parameter(
        0.05, 'above the floor: lower things are no obstacles', range=(0.0, 10.0), unit='m',
        changeable=True)
    max_obstacle_height: float = parameter(
        1.8, 'above the floor: the robot passes under higher things', range=(0.0, 10.0), unit='m',
        changeable=True)
    obstacle_min_range: float = parameter(
        0.05, 'nearest obstacle, along the floor', range=(0.0, 100.0), unit='m', changeable=True)
    obstacle_max_range: float = parameter(
        4.0, 'farthest obstacle, along the floor', range=(0.0, 100.0), unit='m', changeable=True)
    obstacle_voxel_size: float = parameter(
        0.05, 'one point of depth/obstacles for each cube of this side; 0: all points',
        range=(0.0, 10.0), unit='m', changeable=True)
    scan_frame: str = parameter(
        '', "level frame of depth/scan, which the node sends on /tf; empty: the image's frame_id "
        'with _level behind it', changeable=True)
    measured_distance: float = parameter(
        0.0, 'in a straight line from the lens to what measured_pixel shows, for ~/calibrate_scale',
        range=(0.0, 100.0), unit='m', changeable=True)
    measured_pixel: str = parameter(
        '', "column and row in depth/image, as '320 240'; empty: the middle", changeable=True)
    scale_file: str = parameter(
        '~/.ros/depth_scale.yaml', 'keeps what ~/calibrate_scale found for each camera')
    latency_warning: float = parameter(
        0.5, 'latency that /diagnostics warns about; 0: none', range=(0.0, 3600.0), unit='s',
        changeable=True)
    snapshot_folder: str = parameter(
        '~/.ros/depth_snapshots', '~/snapshot writes a folder in here', changeable=True)

    @property
    def network(self) -> NetworkSettings:
        """Those that make the network."""
        return NetworkSettings(self.weights, self.device, self.precision, self.runtime)

    @property
    def anchoring(self) -> AnchorSettings:
        """Those that say how anchors are used."""
        return AnchorSettings(
            self.anchor_age, self.anchor_time_constant, self.temporal_smoothing,
            self.camera_height, self.camera_pitch, self.camera_roll, self.floor_frame,
            self.fixed_frame, self.anchor_min_range, self.anchor_max_range)

    @property
    def obstacles(self) -> ObstacleSettings:
        """Those that say what counts as an obstacle; ValueError where nothing could."""
        return ObstacleSettings(
            self.min_obstacle_height, self.max_obstacle_height, self.obstacle_min_range,
            self.obstacle_max_range, self.obstacle_voxel_size)

    @property
    def gives_metres(self) -> bool:
        """Whether anchors can make metres of relative depth: the floor is found in metres."""
        return any(name and name != 'floor' for name in self.anchors)

    def prediction_options(self, sigma: bool) -> PredictionOptions:
        """Return those of a prediction; `sigma`: with the standard deviation of depth."""
        return PredictionOptions(  # borders are found over several images before
            self.fit, self.focal_correction, self.sharpen, sigma, ignore_border=False)


SETTINGS = settings_of(DepthSettings)


def check_network(settings: NetworkSettings) -> None:
    """Check in no time what names the network; whether it can be loaded shows when it is.

    Args:
        settings: Of the network.

    Raises:
        OSError: Where `weights` is no registered name and there is no such file or folder.
        ValueError: Where `weights` is no address on the hub, or there is no such device.
    """
    weights, device = settings.weights, settings.device
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


def check_anchors(settings: DepthSettings
                  ) -> tuple[list[str], list[npt.NDArray[np.floating] | None]]:
    """Read what the parameters say of anchors.

    Args:
        settings: The node's.

    Returns:
        Names of the sources, and their fixed poses, 4×4 or None.

    Raises:
        ValueError: Naming the parameter, where they will not do.
    """
    names = [name for name in settings.anchors if name]
    for name in names:
        if not re.fullmatch(r'[A-Za-z]\w*(/[A-Za-z]\w*)?', name, re.ASCII):
            raise ValueError(f'parameter anchors has the source {name!r}; it is a kind, or a kind '
                             'and a name: scan/rear')
    try:
        poses = [read_pose(text) for text in settings.anchor_poses]
        AnchorCorrector(names, poses)
    except ValueError as error:
        raise ValueError(f'parameters anchors and anchor_poses: {error}') from error
    return names, poses


def check_ranges(settings: DepthSettings) -> None:
    """Check that some point, pixel and obstacle could be both far and near enough.

    Raises:
        ValueError: Where none could.
    """
    for prefix, near, far in (
            ('', settings.min_range, settings.max_range),
            ('anchor_', settings.anchor_min_range, settings.anchor_max_range)):
        if 0 < far <= near:
            raise ValueError(f'{prefix}max_range {far:g} m is not above {prefix}min_range '
                             f'{near:g} m; make it larger, or 0 for no limit')
    _ = settings.obstacles
