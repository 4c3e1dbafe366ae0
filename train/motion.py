"""What depth by the camera's own motion brings, with odometry as it is and with wrong one."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import tqdm

from hybrid_depth_ros.anchors import Anchors, MotionAnchors
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.benchmark.room_sensors import drifting
from hybrid_depth_ros.metrics import delta1
from hybrid_depth_ros.poses import PlacedPose
from hybrid_depth_ros.predictor import DepthPredictor
from train.walks import RATE, Pose, Walk

KNOWN_AFTER = 1.0  # metres, after which the scale is looked at


def twice_too_long(poses: Sequence[Pose]) -> list[Pose]:
    """What odometry says whose wheels are twice as large as it believes."""
    out = [pose.copy() for pose in poses]
    for pose in out:
        pose[:3, 3] *= 2
    return out


ODOMETRY: dict[str, Callable[[Sequence[Pose]], Sequence[Pose]]] = {
    'with motion': lambda poses: poses,
    '2 % too long with drift': drifting,
    'twice too long': twice_too_long,
    'late by 0.1 s': lambda poses: [poses[0], *poses[:-1]],  # a frame, at RATE
    'standing': lambda poses: [poses[0]] * len(poses)}


def scale_off(anchors: Anchors, truth: npt.NDArray[np.floating]) -> float:
    """Median log of measured / true depth of anchors; NaN where there are none."""
    true = truth[np.rint(anchors.v).astype(int), np.rint(anchors.u).astype(int)]
    known = true > 0
    return float(np.median(np.log(anchors.depth[known] / true[known]))) if known.any() else np.nan


class Frame(NamedTuple):
    """One frame of a walk. depth: as predicted; truth: as it is; both float32 H×W metres."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]


class Score(NamedTuple):
    """delta1: its mean over frames. said: what the WARN said, and in how many frames."""

    delta1: float
    said: Counter[str]


def predicted(predictor: DepthPredictor, walk: Walk) -> Iterator[Frame]:
    """The frames of a walk."""
    for number in range(len(walk.poses)):
        rgb, truth = walk.read(number)
        yield Frame(rgb, predictor(rgb, fx=walk.camera.fx), truth)


def follow(walk: Walk, frames: Sequence[Frame], said: Sequence[Pose]) -> Score:
    """Depth along a walk, corrected by what odometry said of its poses."""
    told: list[Pose] = []
    corrector = AnchorCorrector(
        ['motion'], lookup=lambda *_: PlacedPose(np.linalg.inv(told[-1]), '', ''))
    scores, warned = [], Counter[str]()
    for number, (frame, pose) in enumerate(zip(frames, said)):
        told.append(pose)
        info = ImageInfo(round(1e9 * (1 + number / RATE)), 'camera', walk.camera,
                         cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), rgb=frame.rgb)
        corrected = corrector.correct(frame.depth, info, AnchorSettings()).depth
        scores.append(delta1(corrected, frame.truth))
        if trouble := corrector.sources['motion'].trouble:
            warned[trouble] += 1
    return Score(float(np.mean(scores)), warned)


def tracked(walk: Walk, frames: Sequence[Frame]) -> tuple[float, float]:
    """How far the scale of depth by motion is off after KNOWN_AFTER metres (log, the largest of
    all frames; NaN where the way is shorter), and the median time of a frame, ms of a core."""
    motion, way, off, times = MotionAnchors(walk.camera), 0.0, [np.nan], []
    for number, (frame, pose) in enumerate(zip(frames, walk.poses)):
        if number:
            way += float(np.linalg.norm(pose[:3, 3] - walk.poses[number - 1][:3, 3]))
        gray = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        start = time.thread_time()
        anchors = motion(gray, pose, number / RATE)
        times.append(1000 * (time.thread_time() - start))
        if way >= KNOWN_AFTER:
            off.append(abs(scale_off(anchors, frame.truth)))
    known = [value for value in off if np.isfinite(value)]
    return max(known, default=np.nan), float(np.median(times))


def motion_lines(predictor: DepthPredictor, walks: Sequence[Walk]) -> Iterator[str]:
    """δ1 alone and with each odometry, of each walk and of all of a kind: lines of text."""
    kinds: dict[str, list[list[float]]] = {}
    for walk in tqdm.tqdm(walks, unit='walk'):
        frames = list(predicted(predictor, walk))
        alone = float(np.mean([delta1(frame.depth, frame.truth) for frame in frames]))
        found = {name: follow(walk, frames, say(walk.poses)) for name, say in ODOMETRY.items()}
        figures = [alone, *(score.delta1 for score in found.values()), *tracked(walk, frames)]
        kinds.setdefault(walk.name.split()[0], []).append(figures)
        yield _line(walk.name, figures)
        for name, score in found.items():
            for said, count in _short(score.said).most_common(2):
                yield f'    {name}, {count} of {len(frames)} frames: {said}'
    for kind, rows in kinds.items():
        if len(rows) > 1:
            yield _line(f'{len(rows)} × {kind}', np.mean(rows, 0).tolist())


def _line(name: str, figures: Sequence[float]) -> str:
    alone, *others, off, milliseconds = figures
    scale = f'scale after {KNOWN_AFTER:g} m off by {off:.1%}' if np.isfinite(off) else ''
    return ', '.join(filter(None, [
        f'{name}: δ1 alone {alone:.3f}',
        *(f'{title} {score:.3f}' for title, score in zip(ODOMETRY, others)),
        scale, f'{milliseconds:.1f} ms a frame']))


def _short(said: Counter[str]) -> Counter[str]:
    """The same, without numbers and advice."""
    out = Counter[str]()
    for text, count in said.items():
        out[re.sub(r'[-\d.]+', '…', text.split(':')[0])] += count
    return out
