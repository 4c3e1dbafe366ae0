"""Depth by motion beside what else is known of distances: how far to follow it, and its odometry.

The scale of depth by motion is odometry's. Nothing in the images contradicts odometry that is twice
too long: it takes the floor, another sensor, or a network that is nearly right.
"""

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics

SIGNIFICANT = 2.5  # standard deviations from which on their scale is followed
LEAST_SD, OWN_SD = 0.01, 0.02  # share of the depth, of a track's own error where it
WELL_KNOWN = 0.1               # is below this: details are followed between such tracks
EDGE = 4           # pixels about a track in which predicted depth may step
EDGE_SD = 0.15     # of that step's log, as tracks lie on outlines
OUTLINE = 0.2      # log by which predicted depth differs within a track's window at an outline
WINDOW_SIDE = 7    # places along each side of the window that are looked at
MOVE_COST = 0.2    # log ratio that is worth moving a track by half of its window
BESIDE, BESIDE_X = 0.3, 0.3  # longer sides of the image, log of predicted depth: correlation
MIN_TRACKS = 8     # away from outlines, without which nothing tells where the others belong
FRAMES = 10        # over which what is said of odometry is averaged
# Networks see rooms too large rather than too small, so much less they give only where odometry's
# steps are too long:
MAX_BEYOND_NETWORK = 1.5
MAX_BEFORE_NETWORK = 6.0  # no network sees a whole scene so many times too far
MAX_BEYOND_SENSOR = 1.45  # times another sensor's distances, or as many times less
BELOW_FLOOR, BELOW_SHARE = 1.3, 0.1  # times the height, and by how many of the tracks, at most


class OdometryCheck:
    """Whether odometry's lengths are right, judged by depth by motion over some frames."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def add(self, anchors: Anchors, depth: npt.NDArray[np.float32], others: dict[str, Anchors],
            floor: tuple[Intrinsics, float, npt.NDArray[np.floating]] | None = None) -> str:
        """Take in a frame.

        Args:
            anchors: by motion, at least one.
            depth: float32 H×W metres as predicted.
            others: those of sensors that measure distances, by name.
            floor: intrinsics, the camera's height in metres and gravity's unit vector in the
                optical frame, where these are known.

        Returns:
            Why odometry's lengths are not believed, or empty.
        """
        beyond = _median(log_ratio(anchors, depth))
        if self._averaged('network', beyond) > np.log(MAX_BEYOND_NETWORK):
            return (f"depth by motion is {np.exp(self._means['network']):.2g} times the "
                    "network's: odometry is probably too long (its units, the wheels' radius)")
        if self._means.get('network', 0.0) < -np.log(MAX_BEFORE_NETWORK):
            return (f"depth by motion is {np.exp(self._means['network']):.1g} times the network's: "
                    'odometry is probably of another frame, or far too short (its units)')
        for name, other in others.items():
            measured = _median(log_ratio(other, depth)) if len(other) else np.nan
            mean = self._averaged(name, beyond - measured)
            if abs(mean) > np.log(MAX_BEYOND_SENSOR):
                return (f'depth by motion is {np.exp(mean):.2g} times that by {name}: odometry is '
                        f"probably too {'long' if mean > 0 else 'short'} (its units, the wheels' "
                        f'radius); {name} is believed')
        if floor is not None:
            camera, height, down = floor
            share = _drop(anchors, camera, down) > BELOW_FLOOR * height
            if self._averaged('floor', float(share.mean())) > BELOW_SHARE:
                return (f"by motion, {self._means['floor']:.0%} of the tracks lie far below the "
                        f'floor, which is {height:.3g} m below the camera: odometry is probably '
                        "too long (its units, the wheels' radius), or the height too small")
        return ''

    def _averaged(self, name: str, value: float) -> float:
        """The mean of a value over the last frames."""
        if np.isfinite(value):
            count = self._means.get(f'{name}, frames', 0.0) + 1
            mean = self._means.get(name, 0.0)
            self._means[name] = mean + (value - mean) / min(count, FRAMES)
            self._means[f'{name}, frames'] = count
        return self._means.get(name, 0.0)


def _median(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float('nan')


def _drop(anchors: Anchors, camera: Intrinsics, down: npt.NDArray[np.floating]
          ) -> npt.NDArray[np.floating]:
    """Metres that each anchor lies below the camera."""
    x = (anchors.u - camera.cx) / camera.fx
    y = (anchors.v - camera.cy) / camera.fy
    return np.asarray(anchors.depth * (x * down[0] + y * down[1] + down[2]))


def log_ratio(anchors: Anchors, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Log of measured / predicted depth of each anchor; NaN where it is unknown."""
    u, v = _places(anchors, depth)
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.log(anchors.depth / depth[v, u])
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _places(anchors: Anchors, depth: npt.NDArray[np.float32], right: int = 0, down: int = 0
            ) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    height, width = depth.shape
    return ((np.rint(anchors.u).astype(int) + right).clip(0, width - 1),
            (np.rint(anchors.v).astype(int) + down).clip(0, height - 1))


def moved_to_their_side(anchors: Anchors, depth: npt.NDArray[np.float32], reach: float) -> Anchors:
    """Anchors by motion, those at outlines moved to the side of the outline that they belong to.

    A track at an outline follows one side of it, but its pixel may lie on the other. It belongs
    where predicted depth, corrected as the tracks beside it say, fits it best.

    Args:
        anchors: tracks.
        depth: float32 H×W metres as predicted.
        reach: pixels, half of the side of the window by which tracks are found.
    """
    offsets = np.rint(np.linspace(-reach, reach, WINDOW_SIDE)).astype(int)
    down, right = (axis.ravel() for axis in np.meshgrid(offsets, offsets, indexing='ij'))
    column, row = (values[:, None] for values in _places(anchors, depth))
    columns = (column + right).clip(0, depth.shape[1] - 1)
    rows = (row + down).clip(0, depth.shape[0] - 1)
    with np.errstate(divide='ignore', invalid='ignore'):
        x = np.log(depth[rows, columns], dtype=np.float32)
        step = x.max(1) - x.min(1)
    edge, flat = np.flatnonzero(step > OUTLINE), np.flatnonzero(step <= OUTLINE)
    edge = edge[np.isfinite(step[edge])]
    if not edge.size or flat.size < MIN_TRACKS:
        return anchors
    ratio = log_ratio(anchors, depth)[flat]
    near, far, x = x[edge].min(1), x[edge].max(1), x[edge]
    distance = np.hypot(*(np.subtract.outer(places[edge], places[flat])
                          for places in (anchors.u, anchors.v))) / max(depth.shape)
    middle = float(np.median(ratio))

    def expected(log_depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        away = np.subtract.outer(log_depth, np.log(depth[row[flat, 0], column[flat, 0]]))
        share = np.exp(-0.5 * (distance / BESIDE) ** 2 - 0.5 * (away / BESIDE_X) ** 2)
        return np.asarray((share @ ratio + middle) / (share.sum(1) + 1))
    side = (x - near[:, None]) / (far - near)[:, None]
    at_near, at_far = expected(near)[:, None], expected(far)[:, None]
    off = np.abs(np.log(anchors.depth[edge])[:, None] - x - at_near - side * (at_far - at_near))
    best = (off + MOVE_COST * np.hypot(down, right) / max(reach, 1)).argmin(1)
    u, v = anchors.u.copy(), anchors.v.copy()
    moved = (down[best] != 0) | (right[best] != 0)
    u[edge[moved]] = columns[edge, best][moved]
    v[edge[moved]] = rows[edge, best][moved]
    return Anchors(u, v, anchors.depth, anchors.sigma)


def weighed(anchors: Anchors, depth: npt.NDArray[np.float32], common_sd: float) -> Anchors:
    """Anchors by motion, as far as they are to be followed.

    Their common error shifts all of them alike, so it can't be averaged out. As in Wiener's filter
    they contradict the network's scale only as far as they are sure of it. What is left of their
    sigma is each one's own, and larger at outlines, where a track lies on either side.

    Args:
        anchors: with sigma.
        depth: float32 H×W metres as predicted.
        common_sd: standard deviation of what they have in common, share of the depth; inf where
            nothing is known of it.
    """
    common_sd = min(common_sd, 1.0)
    ratio = log_ratio(anchors, depth)
    known = ratio[np.isfinite(ratio)]
    if not known.size or anchors.sigma is None:
        return anchors
    shift = float(np.median(known))
    doubt = (SIGNIFICANT * common_sd) ** 4
    z = anchors.depth * np.float32(np.exp(-shift * doubt / (shift ** 4 + doubt + 1e-12)))
    around = np.stack([depth[_places(anchors, depth, right, down)[::-1]] for right, down in (
        (0, 0), (EDGE, 0), (-EDGE, 0), (0, EDGE), (0, -EDGE))])
    with np.errstate(divide='ignore', invalid='ignore'):
        step = np.log(around.max(0) / around.min(0))
    step = np.where(np.isfinite(step), step, 0)
    own = (anchors.sigma / anchors.depth) ** 2 - common_sd ** 2
    own = np.where(own < WELL_KNOWN ** 2, own.clip(LEAST_SD ** 2, OWN_SD ** 2), own)
    sigma = np.sqrt(own + (EDGE_SD * step) ** 2)
    return Anchors(anchors.u, anchors.v, z, sigma * z)
