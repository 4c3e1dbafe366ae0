"""What a correction learns from the frame before: it does not jump, is carried on, and fades."""

from typing import NamedTuple

import cv2
import numpy as np

INTERVAL = 0.1     # seconds between frames that carry no stamps
GAP = 2.0          # seconds after which the last frame says nothing about this one
FADE = 5.0         # seconds after which a correction without anchors is down to 1/e
CUT_JUMP = 0.4     # log depth that a whole picture does not change by from frame to frame
CUT_CHANGE = 0.07  # nor its cells about that, in the median: a camera that walks through a room
CUT_RATE = 0.05    # has 0.05 within 0.1 s and 0.1 within 1 s, two rooms mostly more than 0.1
# Anchors that need no frames before them: what the network changes from frame to frame they have
# seen, and the frames before have not. With 5 points averaging takes off 40 % of the flicker, with
# 100 beams it would add 30 %.
SURE = 40
STEADY = 2.0       # times the time constant: over which the scale of the whole picture is smoothed
# Log of how far its mean is off over a time constant where that time is halved: flicker has no
# mean, and a robot that stops is not to be told for long that its room still comes nearer.
LAG = 0.015
REGION = 4         # cells along the side of regions that are smoothed by themselves besides,
BRIEFLY = 0.4      # over so many time constants, and by so much log depth at most that what moves
REGION_MOST = 0.02  # by itself is never farther behind


class State(NamedTuple):
    """What the next frame is told. seen: float32 grid, log depth as the network gave it. field:
    log correction that the anchors gave, or None. level, rate: log of what smooths the scale,
    and its change in a second; lag: the mean of level. regions: float32, what is smoothed besides
    in each REGION of cells, or None.
    """

    stamp: float
    seen: np.ndarray
    field: np.ndarray | None = None
    level: float = 0.0
    rate: float = 0.0
    lag: float = 0.0
    regions: np.ndarray | None = None


def median(values):
    """The middle one of an array's values (of two in the middle the larger), a float."""
    middle = values.size // 2
    return float(np.partition(values.ravel(), middle)[middle])


def middle_half(values):
    """The mean of an array's middle half by size, a float: steadier than the median."""
    quarter = values.size // 4
    kept = np.partition(values.ravel(), (quarter, values.size - quarter - 1))
    return float(kept[quarter:values.size - quarter].mean())


def is_cut(last, seen, passed):
    """Whether the scene has changed: last, seen: float32 grids of log depth, `passed` s apart."""
    change = seen - last
    jump = median(change)
    return (abs(jump) > CUT_JUMP or median(np.abs(change - np.float32(jump)))
            > CUT_CHANGE + CUT_RATE * passed)


def carry(previous, seen, measured, anchors, stamp, time_constant, smooth):
    """The correction for a frame, and what to tell the next one.

    previous: the last result or its State, or None. seen: float32 grid, log depth as the network
    gave it. measured: the correction that this frame's anchors give, or None; anchors: how many
    of them agree. stamp, time_constant, smooth: as of ``anchored``. Returns (field or None, State).

    What a few anchors measure is averaged over `time_constant`; what many do is taken as it is. A
    correction without new anchors fades. Where nothing is measured, `smooth` follows the depth of
    the whole picture with its trend (a fading-memory filter of second order, which has no lag
    behind steady motion: N. Morrison, Introduction to Sequential Smoothing and Prediction, 1969)
    and takes what jumps for the network's flicker; where it stays off one way, motion has changed.
    What regions of the picture change besides is smoothed too, but no farther than REGION_MOST.
    """
    last = getattr(previous, 'state', previous)
    if last is not None and stamp is None:
        stamp = last.stamp + INTERVAL
    elif stamp is None:
        stamp = 0.0
    passed = 0.0 if last is None else stamp - last.stamp
    if (last is None or time_constant <= 0 or last.seen.shape != seen.shape
            or not 0 < passed <= GAP or is_cut(last.seen, seen, passed)):
        return measured, State(stamp, seen, measured)
    kept = float(np.exp(-passed / time_constant))
    level, rate, lag, regions = 0.0, 0.0, 0.0, None
    if smooth and measured is None:
        change = seen - last.seen
        common = middle_half(change)
        level = last.level - common + last.rate * passed
        lag = level + kept * (last.lag - level)
        steady = kept ** ((1 + (lag / LAG) ** 2) / STEADY)
        rate = last.rate - (1 - steady) ** 2 * level / passed
        level *= steady ** 2
        change -= np.float32(common)
        regions = -cv2.resize(change.clip(-REGION_MOST, REGION_MOST),
                              [-(-size // REGION) for size in change.shape[::-1]],
                              interpolation=cv2.INTER_AREA)
        if last.regions is not None:
            regions += last.regions
        regions *= np.float32(kept ** (1 / BRIEFLY))
        regions = regions.clip(-REGION_MOST, REGION_MOST)
    field = last.field
    if measured is None:
        if field is not None:
            field = field * np.float32(np.exp(-passed / FADE))
    elif field is None:
        field = measured
    else:
        share = kept * max(0.0, 1 - anchors / SURE)
        field = measured + np.float32(share) * (field - measured)
    corrected = field
    if regions is not None:
        smoothed = cv2.resize(regions, seen.shape[::-1]) + np.float32(level)
        corrected = smoothed if field is None else field + smoothed
    return corrected, State(stamp, seen, field, level, rate, lag, regions)
