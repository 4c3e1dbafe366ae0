"""A correction over time: few anchors are averaged, it fades without them, flicker is smoothed."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DEFAULT_INTERVAL = 0.1  # seconds between frames that carry no stamps
MAX_GAP = 2.0      # seconds after which the last frame says nothing about this one
FADE_TIME = 5.0    # seconds after which a correction without anchors is down to 1/e
# A cut to another scene: what an image does not change by from one frame to the next, in log depth:
CUT_JUMP = 0.4     # as a whole;
CUT_CHANGE = 0.07  # nor its cells about that, in the median: a camera that walks through a room
CUT_RATE = 0.05    # has 0.05 within 0.1 s and 0.1 within 1 s, two rooms mostly more than 0.1
# Anchors that need no frames before them: what the network changes from frame to frame they have
# seen, and the frames before have not. With 5 points averaging takes off 40 % of the flicker, with
# 100 beams it would add 30 %.
SUFFICIENT_ANCHORS = 40
SCALE_TIME = 2.0   # time constants over which the scale of the whole image is smoothed
# Log of how far its mean is off over a time constant where that time is halved: flicker has no
# mean, and a robot that stops is not to be told for long that its room still comes nearer.
LAG = 0.015
REGION_CELLS = 4   # cells along the side of regions that are smoothed by themselves besides,
REGION_TIME = 0.4  # time constants over which they are,
REGION_MOST = 0.02  # log depth at most, so that what moves by itself is never farther behind


class TemporalState(NamedTuple):
    """What the next frame needs of this one.

    Attributes:
        stamp: seconds.
        log_depth: float32 grid, as the network gave it.
        correction: float32 grid, log, by anchors; or None.
        level: log of what smooths the scale.
        rate: its change in a second.
        lag: the mean of `level`.
        regions: float32, log of what is smoothed besides in each region of cells; or None.
        of_depth_image: whether a depth image gave the correction, or a part of it.
    """

    stamp: float
    log_depth: Array
    correction: Array | None = None
    level: float = 0.0
    rate: float = 0.0
    lag: float = 0.0
    regions: Array | None = None
    of_depth_image: bool = False


def median(values: npt.NDArray[Any]) -> float:
    """The middle one of an array's values; of two in the middle the larger."""
    middle = values.size // 2
    return float(np.partition(values.ravel(), middle)[middle])


def interquartile_mean(values: npt.NDArray[Any]) -> float:
    """The mean of an array's middle half by size: steadier than the median."""
    quarter = values.size // 4
    kept = np.partition(values.ravel(), (quarter, values.size - quarter - 1))
    return float(kept[quarter:values.size - quarter].mean())


def is_cut(last: Array, now: Array, passed: float) -> bool:
    """Whether the scene has changed between two grids of log depth, `passed` seconds apart."""
    change = now - last
    jump = median(change)
    return (abs(jump) > CUT_JUMP or median(np.abs(change - np.float32(jump)))
            > CUT_CHANGE + CUT_RATE * passed)


def smoothed_correction(previous: Any, log_depth: Array, measured: Array | None, anchors: int,
                        stamp: float | None, time_constant: float, smooth: bool
                        ) -> tuple[Array | None, TemporalState]:
    """The correction for a frame, and the state for the next one.

    What a few anchors measure is averaged over `time_constant`; what many do is taken as it is. A
    correction without new anchors fades. Where nothing is measured, `smooth` follows the depth of
    the whole image with its trend and takes what jumps for the network's flicker; where it stays
    off one way, motion has changed. What regions of the image change besides is smoothed too, but
    no farther than REGION_MOST.

    Args:
        previous: the last frame's result or state, or None.
        log_depth: float32 grid, as the network gave it.
        measured: float32 grid, the log correction that this frame's anchors give, or None.
        anchors: how many of them agree.
        stamp: seconds; None: ``DEFAULT_INTERVAL`` after the last.
        time_constant: seconds; 0: each frame is by itself.
        smooth: whether depth without anchors is smoothed.

    Returns:
        The log correction, float32 grid, or None; the state.
    """
    last: TemporalState | None = getattr(previous, 'state', previous)
    if stamp is None:
        stamp = 0.0 if last is None else last.stamp + DEFAULT_INTERVAL
    passed = 0.0 if last is None else stamp - last.stamp
    if (last is None or time_constant <= 0 or last.log_depth.shape != log_depth.shape
            or not 0 < passed <= MAX_GAP or is_cut(last.log_depth, log_depth, passed)):
        return measured, TemporalState(stamp, log_depth, measured)
    kept = float(np.exp(-passed / time_constant))
    correction = last.correction
    if measured is None:
        if correction is not None:
            correction = correction * np.float32(np.exp(-passed / FADE_TIME))
    elif correction is None:
        correction = measured
    else:
        share = kept * max(0.0, 1 - anchors / SUFFICIENT_ANCHORS)
        correction = measured + np.float32(share) * (correction - measured)
    if not smooth or measured is not None:
        return correction, TemporalState(stamp, log_depth, correction,
                                         of_depth_image=last.of_depth_image)
    level, rate, lag, regions = _follow(last, log_depth - last.log_depth, passed, kept)
    smoothed = cv2.resize(regions, log_depth.shape[::-1]) + np.float32(level)
    state = TemporalState(stamp, log_depth, correction, level, rate, lag, regions,
                          last.of_depth_image)
    return smoothed if correction is None else correction + smoothed, state


def _follow(last: TemporalState, change: Array, passed: float, kept: float
            ) -> tuple[float, float, float, Array]:
    """Level, rate, lag and regions of the next state: a fading-memory filter of second order.

    It has no lag behind steady motion.

    Args:
        last: the state before.
        change: of the grid of log depth since.
        passed: seconds since.
        kept: the share that one time constant leaves.

    Source: N. Morrison, Introduction to Sequential Smoothing and Prediction, 1969.
    """
    common = interquartile_mean(change)
    level = last.level - common + last.rate * passed
    lag = level + kept * (last.lag - level)
    steady = kept ** ((1 + (lag / LAG) ** 2) / SCALE_TIME)
    rate = last.rate - (1 - steady) ** 2 * level / passed
    level *= steady ** 2
    change = (change - np.float32(common)).clip(-REGION_MOST, REGION_MOST)
    regions: Array = -cv2.resize(change, [-(-size // REGION_CELLS) for size in change.shape[::-1]],
                          interpolation=cv2.INTER_AREA)
    if last.regions is not None:
        regions += last.regions
    regions *= np.float32(kept ** (1 / REGION_TIME))
    return level, rate, lag, regions.clip(-REGION_MOST, REGION_MOST)
