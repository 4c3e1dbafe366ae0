"""Depth by motion beside what else is known of distances: how far to follow it, and its odometry.
"""

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors

SIGNIFICANT = 2.5
LEAST_SD, OWN_SD = 0.01, 0.02  # share of the depth, of a track's own error where it
WELL_KNOWN = 0.1               # is below this: details are followed between such tracks
EDGE = 4           # pixels about a track in which predicted depth may step
EDGE_SD = 0.15     # of that step's log, as tracks lie on outlines


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


def weighed(anchors: Anchors, depth: npt.NDArray[np.float32], common_sd: float) -> Anchors:
    """Anchors by motion, as far as they are to be followed.

    Their common error shifts all of them alike, so it can't be averaged out. As in Wiener's filter
    they contradict the network's scale only as far as they are sure of it. What is left of their
    sigma is each one's own, and larger at outlines, where a track lies on either side.

    Args:
        anchors: with sigma.
        depth: float32 H×W metres as predicted.
        common_sd: standard deviation of what they have in common, share of the depth.
    """
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
