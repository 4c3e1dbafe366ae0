"""Whether a sensor looks where its pose says: not turned by many degrees, mirrored or elsewhere.

Measured and predicted distances are compared as they are, and as they would be if the sensor were
turned or mirrored. A right pose fits best, whatever the network is wrong about.
:mod:`~hybrid_depth_ros.anchors.extrinsics_check` finds what is off by a few degrees.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.sensors import in_image
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import BODY_IN_OPTICAL, Pose, pose_from_angles

MIN_ANCHORS = 20  # in the image, for a frame to say anything
MAX_POINTS = 3000  # of a message that are looked at
MAX_ANCHORS = 240  # in the image
YAW_STEP = 30  # degrees
BEST_SHARE = 0.6  # of the anchors that are compared: outliers are left out
MAX_RESIDUAL = 0.5  # log depth
AVERAGED_FRAMES = 30
RARELY = 8  # frames from one that is looked at to the next, once a pose is believed
# cost of each unit of the log of the scale that all have in common, and of its tilt from the middle
# of the image to its side: networks are wrong by these
OFFSET_COST, TILT_COST = 0.05, 0.1
# Measured by train.anchors --orientation in 120 virtual images: docs/anchors.md.
MIN_VARIATION = 0.03  # of predicted log depth, for it to say anything
COST = 0.03  # up to which a pose is believed
TIMES = 1.5  # the cost of the best other pose
CHANCE, SURE_FRAMES = 0.9, 5  # share of the cost by chance, after so many frames
MIRRORED = np.diag([1.0, -1.0, 1.0, 1.0])


@functools.lru_cache(maxsize=2)
def _alternatives(cloud: bool) -> tuple[list[str], list[Pose]]:
    """What may be wrong, and how points of the sensor's frame would move; first: nothing."""
    names, poses = [], []
    for mirror in (False, True):
        for degrees in range(0, 360, YAW_STEP):
            turned = f'turned by {degrees if degrees <= 180 else degrees - 360}° about its z'
            names.append(' and '.join([turned] * bool(degrees) + ['mirrored'] * mirror))
            yaw = pose_from_angles(0, 0, 0, 0, 0, np.deg2rad(degrees))
            poses.append(yaw @ MIRRORED if mirror else yaw)
    if cloud:
        names += ['of a frame that looks along z', 'of a frame that looks along x', 'upside down']
        poses += [np.linalg.inv(BODY_IN_OPTICAL), BODY_IN_OPTICAL,
                  pose_from_angles(0, 0, 0, np.pi, 0, 0)]
    return names, poses


class AverageCosts:
    """How badly measured and predicted depth fit, as they are and otherwise, over frames.

    Args:
        names: what may be wrong; first: nothing.
        advice: a sentence for who has to mend it.
        times: the cost of the best other name, up to which nothing is wrong.
    """

    def __init__(self, names: Sequence[str], advice: str, times: float = TIMES) -> None:
        self._names, self._advice, self._times = names, advice, times
        self._costs = np.zeros(len(names))
        self._seen = np.zeros(len(names), int)  # frames that said something about each
        self._chance, self._chances, self._skipped = 0.0, 0, 0

    def skips(self) -> bool:
        """Whether this frame needn't be looked at: what is believed is looked at rarely."""
        self._skipped += 1
        return bool(self._seen[0] > SURE_FRAMES and self._skipped % RARELY and not self.trouble)

    def average(self, costs: Sequence[float | None], by_chance: Sequence[float]) -> None:
        """Take in a frame.

        Args:
            costs: of each name, as :func:`misfit` has it; None: it says nothing. The first does.
            by_chance: of measurements in wrong places; none where these say nothing.
        """
        for number, cost in enumerate(costs):
            if cost is not None:
                self._seen[number] += 1
                self._costs[number] += ((cost - self._costs[number])
                                        / min(self._seen[number], AVERAGED_FRAMES))
        if by_chance:
            self._chances += 1
            self._chance += ((float(np.mean(by_chance)) - self._chance)
                             / min(self._chances, AVERAGED_FRAMES))

    @property
    def trouble(self) -> str:
        """Why the sensor is not believed; empty where it is."""
        frames, cost = int(self._seen[0]), float(self._costs[0])
        if not frames:
            return ''
        others = np.where(self._seen[1:] >= max(1, min(frames, AVERAGED_FRAMES) / 2),
                          self._costs[1:], np.inf)
        best = int(np.argmin(others))
        if cost > max(COST, self._times * float(others[best])):
            return ('most of it contradicts the image, and would agree if it were '
                    f'{self._names[1 + best]}: {self._advice}')
        if self._chances >= SURE_FRAMES and cost > max(COST, CHANCE * self._chance):
            return ('it agrees with the image no better than by chance, turned, mirrored or of '
                    f'another time: {self._advice}')
        return ''


class OrientationCheck(AverageCosts):
    """How well a sensor's points fit predicted depth, as they lie and otherwise."""

    def __init__(self, cloud: bool) -> None:
        names, self._moves = _alternatives(cloud)
        super().__init__(names, 'is the sensor turned or mirrored? See its pose, and the frame_id '
                         'of its messages and of the images')

    def add(self, depth: npt.NDArray[np.float32], points: npt.NDArray[np.float32], pose: Pose,
            intrinsics: Intrinsics) -> None:
        """Take in a frame.

        Args:
            depth: H×W metres as predicted.
            points: 3×N metres in the sensor's frame.
            pose: 4×4, of the sensor in the optical frame.
            intrinsics: of the image.
        """
        if self.skips():
            return
        points = points[:, ::-(-points.shape[1] // MAX_POINTS) or 1]
        ratios = self._logs(depth, in_image(points, pose, intrinsics))
        if ratios is None or spread(log_of(depth[::8, ::8])) < MIN_VARIATION:
            return
        measured, predicted, place = ratios
        costs: list[float | None] = [misfit(measured - predicted, place)]
        for move in self._moves[1:]:
            found = self._logs(depth, in_image(points, pose @ move, intrinsics))
            enough = found is not None and found[0].size >= measured.size / 2
            costs.append(misfit(found[0] - found[1], found[2]) if found and enough else None)
        self.average(costs, [misfit(measured - np.roll(predicted, measured.size * part // 4), place)
                             for part in (1, 2, 3)])

    @staticmethod
    def _logs(depth: npt.NDArray[np.float32], seen: tuple[Any, ...]
              ) -> tuple[npt.NDArray[np.float32], ...] | None:
        """Logs of measured and of predicted depth, and columns from the middle in halves of the
        width; None where few say something."""
        u, v, z = (values[::-(-values.size // MAX_ANCHORS) or 1] for values in seen[:3])
        with np.errstate(divide='ignore', invalid='ignore'):
            predicted = np.log(depth[np.rint(v).astype(int), np.rint(u).astype(int)])
        known = np.isfinite(predicted)
        if np.count_nonzero(known) < MIN_ANCHORS:
            return None
        half = np.float32(depth.shape[1] / 2)
        return np.log(z[known]), predicted[known], u[known] / half - 1


def log_of(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Logs of what is known, 1-D."""
    with np.errstate(divide='ignore', invalid='ignore'):
        logs = np.log(depth)
    known: npt.NDArray[np.floating] = logs[np.isfinite(logs)]
    return known


def misfit(ratios: npt.NDArray[np.floating], place: npt.NDArray[np.floating]) -> float:
    """Of logs of measured / predicted depth: mostly how much they differ among themselves.

    Args:
        ratios: N.
        place: N, columns from the middle of the image, in halves of its width.
    """
    weights, left, tilt = np.ones(ratios.size), ratios, 0.0
    for _ in range(3):  # a line through them, robustly (Cauchy's weights)
        mean, middle = (float(weights @ values / weights.sum()) for values in (ratios, place))
        moment = weights * (place - middle)
        tilt = float(moment @ ratios / (moment @ (place - middle) + 1e-3 * ratios.size))
        left = ratios - mean - tilt * (place - middle)
        weights = 1 / (1 + (left / (2 * np.median(np.abs(left)) + 1e-3)) ** 2)
    return (spread(left) + OFFSET_COST * min(1.0, abs(float(np.median(ratios))))
            + TILT_COST * min(1.0, abs(tilt)))


def spread(values: npt.NDArray[np.floating]) -> float:
    """Mean distance from the median, of those that are nearest to it."""
    off = np.abs(values - np.median(values)).clip(0, MAX_RESIDUAL)
    kept = max(1, int(BEST_SHARE * off.size))
    return float(np.partition(off, kept - 1)[:kept].mean())


def looks_elsewhere(anchors: Anchors, points: npt.NDArray[np.float32],
                    silent: npt.NDArray[np.float32], pose: Pose, intrinsics: Intrinsics) -> str:
    """Why not one of many points lies in the image; empty where that can be.

    Args:
        anchors: those that do.
        points: 3×N metres that were measured.
        silent: 3×M directions in which nothing was measured; it looks into the image where these
            do.
        pose: 4×4, of the sensor in the optical frame.
        intrinsics: of the image.
    """
    count = points.shape[1]
    if len(anchors) or count < MIN_ANCHORS:
        return ''
    if (in_image(points, pose, intrinsics)[0].size  # all are hidden
            or in_image(3 * silent, pose, intrinsics)[0].size):
        return ''
    body = in_image(points, BODY_IN_OPTICAL @ pose, intrinsics)[0].size
    return (f'none of {count} points lies in the image' + (
        f', {body} would if its frame looked along x' if body else '')
        + ": does the image's frame look along z, as an optical frame does (REP 103)? See the "
        "images' frame_id, or the pose of the sensor")
