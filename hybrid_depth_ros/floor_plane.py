"""The plane of the floor under a camera, as its depth has it, over time.

It is fitted to what the network sees as the floor, so that its scale error does not lift the floor
into obstacles. Frames are optical frames (REP 103); heights are metres above the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.floor import NOT_IN_VIEW, find_floor
from hybrid_depth_ros.geometry import Intrinsics

MAX_RAMP = np.deg2rad(12)  # a plane that is steeper against gravity is no floor
FLOOR_MEMORY = 0.5       # seconds over which the floor is averaged
FLOOR_INTERVAL = 0.1     # seconds from one fit to the next, at least
FLOOR_HOLD = 3.0         # seconds that a floor is kept when it is not seen
FIT_ROUNDS, FIT_TOLERANCE = 3, 0.06  # of the plane; log depth within which a cell is of it
# One standard deviation of a floor's slope, and of a cell's log depth; so many cells err together.
SLOPE_SD, CELL_SD, CELLS_TOGETHER = np.tan(np.deg2rad(3)), 0.05, 20


@dataclass(frozen=True)
class FloorPlane:
    """The floor under a camera.

    A point p of the optical frame is ``height + (up - slope) @ p`` above it.

    Attributes:
        up: 3, unit vector against gravity, in the optical frame.
        height: Metres of the camera above it, straight down, as the depth has it.
        slope: 3, level: metres that the floor rises for each metre along it.
    """

    up: npt.NDArray[np.float64]
    height: float
    slope: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    @classmethod
    def from_gravity(cls, height: float, down: npt.ArrayLike) -> FloorPlane:
        """A level floor. height: metres; down: 3, gravity in the optical frame."""
        direction = np.asarray(down, np.float64)
        return cls(-direction / np.linalg.norm(direction), height)


class FloorTracker:
    """The floor under a moving camera: fitted in each frame, averaged, held where it is not seen.

    Attributes:
        reason: Why it was not seen in the last frame; empty where it was.
        missing: Seconds from the first frame that lacks it to the last one; 0 where it was seen or
            is not in view. After frames over FLOOR_HOLD apart they count anew.
    """

    def __init__(self) -> None:
        self._plane: FloorPlane | None = None
        self._seen = 0.0
        self._updated = 0.0
        self._lost: float | None = None
        self.reason, self.missing = '', 0.0

    def update(self, depth: npt.NDArray[np.float32], intrinsics: Intrinsics, height: float,
               down: npt.ArrayLike, seconds: float) -> FloorPlane | None:
        """The floor in this frame; None where it was not seen for FLOOR_HOLD seconds.

        Args:
            depth: H×W metres.
            intrinsics: Of the image.
            height: Metres of the camera above the floor, about.
            down: 3, gravity in the optical frame.
            seconds: The frame's time.
        """
        passed, since_update = seconds - self._seen, seconds - self._updated
        self._updated = seconds
        if self._plane and 0 <= passed < FLOOR_INTERVAL:
            return self._plane
        plane, self.reason = fit_floor(depth, intrinsics, height, down)
        if plane or self.reason == NOT_IN_VIEW:
            self._lost = None
        elif self._lost is None or not 0 <= since_update <= FLOOR_HOLD:
            self._lost = seconds
        self.missing = 0.0 if self._lost is None else seconds - self._lost
        if plane is None:
            return self._plane if self._plane and 0 <= passed <= FLOOR_HOLD else None
        if self._plane and 0 <= passed <= FLOOR_HOLD:
            share = 1 - np.exp(-max(passed, 0.0) / FLOOR_MEMORY)
            slope = (1 - share) * self._plane.slope + share * plane.slope
            log_height = ((1 - share) * np.log(self._plane.height)
                          + share * np.log(plane.height))
            plane = FloorPlane(plane.up, float(np.exp(log_height)), slope)
        self._plane, self._seen = plane, seconds
        return plane


def fit_floor(depth: npt.NDArray[np.float32], intrinsics: Intrinsics, height: float,
              down: npt.ArrayLike) -> tuple[FloorPlane | None, str]:
    """The plane that depth has as the floor, and why there is none.

    Inverse depth of a plane is linear in the image; it is fitted to the cells that
    :func:`hybrid_depth_ros.anchors.floor.find_floor` finds, those off it left out. A floor is taken
    to be level, give or take SLOPE_SD: a small patch of it would tell a slope that lifts what is
    far from the patch.
    """
    floor = find_floor(depth, intrinsics, height, down)
    if floor.reason:
        return None, floor.reason
    level = FloorPlane.from_gravity(floor.height, down)
    columns, rows = floor.anchors.u.astype(int), floor.anchors.v.astype(int)
    rays = np.stack(((columns - intrinsics.cx) / intrinsics.fx,
                     (rows - intrinsics.cy) / intrinsics.fy, np.ones(columns.size)), axis=1)
    z = depth[rows, columns].astype(np.float64)
    axes = level_axes(level) * [1, 1, -1]  # forward, left, down
    relative = rays @ axes * z[:, None]    # of relative errors
    kept = np.isfinite(z) & (z > 0)
    inverse_height = 1 / floor.height
    for _ in range(FIT_ROUNDS):
        if kept.sum() < 3:
            return None, 'too little of the floor is seen'
        weight = 1 / (CELLS_TOGETHER * CELL_SD ** 2)
        prior = np.diag([1 / (SLOPE_SD * inverse_height) ** 2] * 2 + [0.0])
        forward, left, inverse_height = np.linalg.solve(
            weight * relative[kept].T @ relative[kept] + prior, weight * relative[kept].sum(0))
        with np.errstate(invalid='ignore', divide='ignore'):
            kept = np.abs(np.log(relative @ [forward, left, inverse_height])) < FIT_TOLERANCE
    slope = np.array([forward, left, 0.0]) / inverse_height
    if np.linalg.norm(slope) > np.tan(MAX_RAMP):  # what was found is level by the cells alone
        return level, ''
    return FloorPlane(level.up, float(1 / inverse_height), axes @ slope), ''


def level_axes(plane: FloorPlane) -> npt.NDArray[np.float64]:
    """Forward, left and up of a camera above a floor.

    Returns:
        3×3, unit vectors in columns, in the optical frame.
    """
    axis = np.array([0.0, 0.0, 1.0])
    forward = axis - plane.up * plane.up[2]
    if np.linalg.norm(forward) < 0.1:  # it looks straight down: the image's top is forward
        axis = np.array([0.0, -1.0, 0.0])
        forward = axis - plane.up * (plane.up @ axis)
    forward /= np.linalg.norm(forward)
    return np.stack((forward, np.cross(plane.up, forward), plane.up), axis=1)
