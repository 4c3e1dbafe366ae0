"""The images that networks are timed on, and where a frame's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors import Anchors, anchored
from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.compressed_depth import FORMATS, encode_compressed_depth
from hybrid_depth_ros.floor_plane import FloorPlane, FloorTracker
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import read_colour, read_pixels
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.point_cloud import organised_cloud
from hybrid_depth_ros.virtual_room import Room
from hybrid_depth_ros.weights import HELD_OUT

BATCH_SIZES = (1, 2, 4)                     # images in a batch, cameras on a node
# Runs only where anchors are set; each from the depth that the network gave.
ANCHOR_STAGES = ('anchors, a scan of 360 beams', 'anchors, 30,000 points')
# Runs only where somebody listens; the last two where a camera stands 1.4 m above the floor.
CONSUMER_STAGES = ('compressedDepth, png', 'compressedDepth, rvl', 'floor', 'obstacles and scan')
EDGE_FILTER = 0.05                     # the depth node's default
FOV = 63.3                             # degrees: the camera node's
CAMERA_HEIGHT, PITCH = 1.4, 8.0        # metres, degrees down


class SampleImage(NamedTuple):
    """rgb: uint8 H×W×3; depth: float32 H×W metres, 0 where unknown, or None."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None


class StageTimes(NamedTuple):
    """Seconds of the predictor's stages: to the network's input, the network, to depth."""

    resize: float
    forward: float
    restore: float


def room_image(width: int = 640, height: int = 480,
               seconds: float = 0.0) -> tuple[npt.NDArray[np.uint8], Intrinsics]:
    """An image of the virtual room, uint8 H×W×3, and the camera that sees it."""
    room, camera = Room(0), Intrinsics.from_horizontal_fov(width, height, FOV)
    return room.render(camera, room.camera_pose(seconds))[0], camera


def held_out_images(folder: str | Path) -> list[SampleImage]:
    """The held-out NYU frames with their true depth, spread so that the first few will do.

    Args:
        folder: In the "sync" layout, flat or a folder for each scene: ``rgb_NNNNN.jpg``, and depth
            in ``sync_depth_NNNNN.png``, uint16 millimetres.

    Raises:
        OSError: There is none, or one can't be read.
    """
    pairs = []
    for path in sorted([*Path(folder).glob('rgb_*.jpg'), *Path(folder).glob('*/rgb_*.jpg')]):
        number, depth = path.stem[4:], path.with_name(f'sync_depth_{path.stem[4:]}.png')
        if number.isdecimal() and depth.exists() and any(
                first <= int(number) <= last for first, last in HELD_OUT):
            pairs.append((path, depth))
    if not pairs:
        raise OSError(f'{folder}: no rgb_NNNNN.jpg numbered {HELD_OUT} with a '
                      'sync_depth_NNNNN.png beside it, here or one folder down')
    order = sorted(range(len(pairs)), key=lambda i: i * 0.618034 % 1)
    return [SampleImage(
        read_colour(pairs[i][0]),
        read_pixels(pairs[i][1], cv2.IMREAD_UNCHANGED).astype(np.float32) / np.float32(1000))
        for i in order]


def milliseconds(seconds: Sequence[float], percentile: float = 50) -> float:
    """A percentile of durations in seconds, as milliseconds."""
    return float(1000 * np.percentile(seconds, percentile))


def predict(predictor: Any, rgb: npt.NDArray[np.uint8],
            fx: float | None) -> tuple[npt.NDArray[np.float32], StageTimes]:
    """Depth of one image by a DepthPredictor, and the time of each of its stages."""
    times = [time.perf_counter()]
    view = predictor.preprocess(rgb, fx)
    times.append(time.perf_counter())
    output = predictor.runtime(view.pixels[None])[0]
    times.append(time.perf_counter())
    depth = view.restore(output)
    times.append(time.perf_counter())
    return depth, StageTimes(*np.diff(times).tolist())


def frame_stages(predictor: Any, width: int, height: int, seconds: float,
                 messages: ModuleType | None = None) -> dict[str, float]:
    """Median ms of each stage from message to messages; without ROS, of those between.

    Args:
        predictor: A DepthPredictor.
        width: Of the image.
        height: Of the image.
        seconds: To measure for.
        messages: ``nodes.shared.messages``, where ROS is installed.
    """
    rgb, camera = room_image(width, height)
    if messages:
        image = messages.rgb_to_image(rgb, None)
    rng = np.random.default_rng(0)
    places = {  # columns and rows
        ANCHOR_STAGES[0]: (np.linspace(0, width - 1, 360).astype(int), np.full(360, height // 2)),
        ANCHOR_STAGES[1]: (rng.integers(0, width, 30_000), rng.integers(0, height, 30_000))}
    floor, what, down = FloorTracker(), ObstacleSettings(), down_from_pitch(PITCH)
    level = FloorPlane.from_gravity(CAMERA_HEIGHT, down)
    angles = scan_angles(camera, level, what)

    def obstacles(depth: npt.NDArray[np.float32], plane: FloorPlane | None) -> Any:
        found = find_obstacles(depth, camera, plane or level, what)
        return obstacle_cloud(found, rgb), obstacle_scan(found, angles)
    frames: list[dict[str, float]] = []
    end = time.monotonic() + seconds
    while len(frames) < 4 or time.monotonic() < end:
        took: dict[str, float] = {}

        def timed(stage: str, function: Callable[..., Any], *arguments: Any,
                  took: dict[str, float] = took) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            took[stage] = time.perf_counter() - start
            return result
        if messages:
            rgb = timed('message to array', messages.image_to_rgb, image)
        depth, stages = predict(predictor, rgb, camera.fx)
        took.update(stages._asdict())
        for stage, anchors in places.items():
            timed(stage, anchored, depth, Anchors(
                *anchors, 1.2 * depth[anchors[1], anchors[0]]))
        if messages:
            timed('depth message', messages.depth_to_image, depth, None, '32FC1')
        cloud = timed('cloud', organised_cloud, depth, rgb, camera, 1, 0.0, 0.0, EDGE_FILTER)
        if messages:
            timed('cloud message', messages.cloud_message, cloud, None)
        for stage, form in zip(CONSUMER_STAGES, FORMATS):
            timed(stage, encode_compressed_depth, depth, '32FC1', form)
        plane = timed(CONSUMER_STAGES[2], floor.update, depth, camera, CAMERA_HEIGHT, down,
                      len(frames) / 30)
        timed(CONSUMER_STAGES[3], obstacles, depth, plane)
        frames.append(took)
    # the first frame of a size compiles
    return {stage: milliseconds([took[stage] for took in frames[1:]]) for stage in frames[0]}


def batch_growth(predictor: Any, seconds: float) -> dict[int, float]:
    """Median ms per image of the whole predictor for each size of a batch; they take turns."""
    rgb, end = room_image()[0], time.monotonic() + seconds
    took: dict[int, list[float]] = {n: [] for n in BATCH_SIZES}
    while len(took[1]) < 4 or time.monotonic() < end:
        for count, values in took.items():
            start = time.perf_counter()
            predictor([rgb] * count)
            values.append((time.perf_counter() - start) / count)
    return {count: milliseconds(values[1:]) for count, values in took.items()}
