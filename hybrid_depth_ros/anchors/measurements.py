"""Which numbers of a sensor's message are measurements, and which of its fields are believed.

Drivers write all kinds of numbers where a sensor measured nothing, and fill fields that say the
same thing twice with different things. What can't be a measurement is left out. Of two fields that
contradict each other the one that alone makes sense counts, and a sentence says so; where both do,
none counts. Messages are taken by their fields.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.point_cloud import cloud_to_array
from hybrid_depth_ros.stamps import stamp_of

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

NEAREST = 1e-3  # metres: 0 and less are never measured
FARTHEST = 1e5  # metres: 1e6, 16 777 216 and the like stand for nothing
FARTHEST_MEDIAN = 300.0  # metres: a median beyond is of another unit
AT_LIMIT = 1e-3  # share by which a range at a limit differs from it, rounded
ORIGIN = 0.02  # metres around a sensor in which it measures nothing
# whole numbers that stand for nothing, in millimetres or centimetres: the largest of 16, 15 and 24
# bits, those just below that lidars use as codes, and of time-of-flight sensors (13 bits)
CODES = np.sort(np.divide.outer([65535, 65534, 65533, 32767, 32766, 8191, 8190, 16777215],
                                [1000, 100]).ravel())  # metres
# a number that so many beams repeat, so far from all others, while the others differ
REPEATED, REPEATED_SHARE, REPEATED_GAP = 4, 0.02, 1.2
NEAR_CODE = 0.2  # metres below which a repeated least number is a code as well
SAMPLED = 512  # points among which repeated ones are looked for
FULL_TURN = 2.2 * np.pi  # rad that a scan covers at most, with some overlap
MAX_SWEEP = 2.0  # seconds for a scan
TIME_FIELDS = ('t', 'time', 'timestamp', 'offset_time', 'time_stamp')  # of a cloud's points
MAX_CONE = 2.1  # rad: no wider cone is sold; above, it is told in degrees


class SensorPoints(NamedTuple):
    """What a message measured, in its sensor's frame.

    Attributes:
        points: float32 3×N metres.
        seconds: float32 N, when each was measured after the header's stamp; None: all at once.
        silent: float32 3×M directions in which nothing was measured.
        note: a sentence on fields that are not believed, or empty.
    """

    points: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float32] | None = None
    silent: npt.NDArray[np.float32] = np.zeros((3, 0), np.float32)
    note: str = ''


def is_measurement(ranges: Floats, nearest: float = 0.0, farthest: float = 0.0,
                   intensities: Floats | None = None) -> Mask:
    """Which ranges were measured.

    Left out are NaN and inf, 0 and less, what lies outside of the limits or exactly at one of them
    (REP 117 wants inf there, many drivers write the limit), whole numbers that codes have, a
    number that many repeat far from all others, and what came back without intensity while the
    rest has some.

    Args:
        ranges: N metres.
        nearest: metres, or 0.
        farthest: metres, or 0 where it is not known.
        intensities: N, or empty.

    Returns:
        bool N.
    """
    with np.errstate(invalid='ignore', over='ignore'):
        good = (ranges > max(nearest * (1 + AT_LIMIT), NEAREST)) & (ranges < FARTHEST)
        if 0 < farthest < np.inf:
            good &= ranges < farthest * (1 - AT_LIMIT)
        good &= ~_is_code(ranges)
    if intensities is not None and intensities.size == ranges.size and good.any():
        with np.errstate(invalid='ignore'):
            reflected = intensities > 0
        if reflected[good].mean() > 0.5:
            good &= reflected
    lowest, highest = code_limits(ranges[good])
    return good & (ranges > lowest) & (ranges < highest)


def _is_code(values: Floats) -> Mask:
    code = np.zeros(values.shape, bool)
    with np.errstate(invalid='ignore'):
        large = np.flatnonzero(values > 0.99 * CODES[0])  # few are
    off = np.abs(values[large, None] / CODES - 1)
    code[large] = (off < 1e-6).any(1)
    return code


def code_limits(values: Floats) -> tuple[float, float]:
    """Between which limits values lie, but for one number that many give far off all others."""
    lowest, highest = 0.0, np.inf
    ordered = np.sort(values)
    for _ in range(3):  # several codes
        rest = ordered[(ordered > lowest) & (ordered < highest)]
        if rest.size < 2 * REPEATED or rest[0] == rest[-1]:
            break
        enough = max(REPEATED, REPEATED_SHARE * rest.size)
        low, high = rest[0] * (1 + 1e-5), rest[-1] * (1 - 1e-5)
        lows, below = np.searchsorted(rest, (low, high))
        if (rest.size - below >= enough and rest[below - 1] * REPEATED_GAP < high
                and _mostly_differ(rest[:below])):
            highest = float(high)
        elif (lows >= enough and low < NEAR_CODE and low * REPEATED_GAP < rest[lows]
              and _mostly_differ(rest[lows:])):
            lowest = float(low)
        else:
            break
    return lowest, highest


def _mostly_differ(ordered: Floats) -> bool:
    return bool(np.count_nonzero(np.diff(ordered)) + 1 > 0.5 * ordered.size)


def check_metres(distances: Floats, what: str) -> None:
    """Check that distances can be metres.

    Raises:
        ValueError: They hardly can; `what` begins the sentence.
    """
    distances = distances[::-(-distances.size // (8 * SAMPLED)) or 1]
    if distances.size and (median := float(np.median(distances))) > FARTHEST_MEDIAN:
        raise ValueError(f'{what} of {median:.0f} m are told of: are these millimetres? Have the '
                         'driver publish metres (REP 103)')


def read_scan(message: Any) -> SensorPoints:
    """The points of a sensor_msgs/LaserScan, x forward and z = 0.

    Raises:
        ValueError: Its angles or limits are no numbers or contradict each other, or its ranges are
            no metres.
    """
    ranges = np.asarray(message.ranges, np.float32)
    nearest, farthest = float(message.range_min), float(message.range_max)
    first, step, note = scan_angles(message)
    if np.isnan([nearest, farthest]).any() or 0 < farthest <= nearest:
        raise ValueError(f'the scan has ranges from {nearest:g} to {farthest:g} m: have its driver '
                         'fill range_min and range_max')
    good = is_measurement(ranges, nearest, farthest,
                          np.asarray(getattr(message, 'intensities', ()), np.float32))
    _check_limits(ranges, good, nearest, farthest)
    check_metres(ranges[good], 'ranges')
    angles = first + step * np.arange(ranges.size)
    directions = np.stack((np.cos(angles), np.sin(angles), np.zeros_like(angles))
                          ).astype(np.float32)
    increment, timing = beam_interval(message, abs(step) * ranges.size)
    seconds = (increment * np.flatnonzero(good)).astype(np.float32) if increment else None
    return SensorPoints(directions[:, good] * ranges[good], seconds, directions[:, ~good],
                        '; '.join(filter(None, (note, timing))))


def _check_limits(ranges: Floats, good: Mask, nearest: float, farthest: float) -> None:
    """Raise ValueError where nearly all that could be distances lies outside of the limits."""
    with np.errstate(invalid='ignore'):
        told = ranges[(ranges > NEAREST) & (ranges < FARTHEST) & ~_is_code(ranges)]
    if told.size >= 5 and np.count_nonzero(good) < 0.1 * told.size and _mostly_differ(
            np.sort(told)):
        raise ValueError(f'the scan has ranges of {told.min():.3g} to {told.max():.3g} m, but '
                         f'range_min {nearest:g} and range_max {farthest:g}: have its driver give '
                         'all of them in metres')


def scan_angles(message: Any) -> tuple[float, float, str]:
    """The first angle of a sensor_msgs/LaserScan and the step to the next.

    ``angle_min``, ``angle_increment`` and the number of ranges say what ``angle_max`` says again.

    Returns:
        Radians, and a sentence where something else than all fields as they are is believed.

    Raises:
        ValueError: The angles are no numbers, no turn has them, or they contradict each other and
            each could be right.
    """
    first, step = float(message.angle_min), float(message.angle_increment)
    last = float(getattr(message, 'angle_max', np.nan))
    count = len(message.ranges)
    if not np.isfinite([first, step]).all():
        raise ValueError(f'the scan starts at {first} rad in steps of {step} rad: have its driver '
                         'fill these')
    if count < 2:
        return first, step, ''
    told = np.isfinite(last) and not (last == 0 and _makes_sense(first, step, count))
    if _makes_sense(first, step, count) and (not told or _meets(first, step, last, count)):
        return first, step, ''
    fields = (f'{count} ranges from angle_min {first:g} in steps of {step:g} would end at '
              f'{first + step * (count - 1):g} rad, and angle_max is {last:g}')
    if not told:
        raise ValueError(f'the scan has {count} ranges in steps of {step:g} rad, which no turn '
                         'has: have its driver fill angle_increment, in radians')
    radians = np.deg2rad
    for what, reading in (
            ('angle_min and angle_max are taken for degrees', (radians(first), step,
                                                               radians(last))),
            ('all are taken for degrees', (radians(first), radians(step), radians(last))),
            ('angle_increment is taken for degrees', (first, radians(step), last))):
        start, between, end = map(float, reading)
        if _makes_sense(start, between, count) and _meets(start, between, end, count):
            return start, between, f'{fields}: {what}'
    readings = {'angle_max is not believed': (first, step)}
    between = (last - first) / (count - 1)
    if max(abs(first), abs(last)) > FULL_TURN:
        readings['angle_increment is not believed, the others are taken for degrees'] = (
            float(radians(first)), float(radians(between)))
    else:
        readings['angle_increment is not believed'] = first, between
    sensible = {what: reading for what, reading in readings.items()
                if _makes_sense(reading[0], reading[1], count)}
    if len(sensible) != 1:
        raise ValueError(f'{fields}: have the driver of the scan fill these, in radians')
    (what, (first, step)), = sensible.items()
    return first, step, f'{fields}: {what}'


def _makes_sense(first: float, step: float, count: int) -> bool:
    return 0 < abs(step) * (count - 1) < FULL_TURN and abs(first) < FULL_TURN


def _meets(first: float, step: float, last: float, count: int) -> bool:
    """Whether the last angle is the one that is told, or one step before or behind it."""
    return (abs(first + step * (count - 1) - last)
            < 1.5 * abs(step) + 0.005 * abs(step) * (count - 1))


def beam_interval(message: Any, covered: float) -> tuple[float, str]:
    """Seconds from one beam of a sensor_msgs/LaserScan to the next; 0: all are of one moment.

    ``time_increment`` and the number of ranges say about what ``scan_time`` says again.

    Args:
        message: the scan.
        covered: rad from the first beam to the last.

    Returns:
        Seconds, and a sentence where ``time_increment`` is not believed.
    """
    increment = float(getattr(message, 'time_increment', 0.0))
    turn, count = float(getattr(message, 'scan_time', 0.0)), len(message.ranges)
    if not increment or count < 2:
        return 0.0, ''
    sweep = abs(increment) * (count - 1)
    turn = turn if 0 < turn <= MAX_SWEEP else 0.0
    expected = turn * min(1.0, covered / (2 * np.pi))
    if np.isfinite(increment) and sweep <= (1.5 * turn or MAX_SWEEP) and sweep > expected / 4:
        return increment, ''
    told = (f'time_increment {increment:g} s makes {sweep:.3g} s for {count} ranges, scan_time is '
            f'{float(getattr(message, "scan_time", 0.0)):g} s')
    if not turn:
        return 0.0, f'{told}: all beams are taken to be of one moment'
    return float(np.copysign(expected / count, increment)), f'{told}: scan_time counts'


def read_cloud(message: Any) -> SensorPoints:
    """The points of a sensor_msgs/PointCloud2.

    Raises:
        ValueError: it has no x, y and z, not as many bytes as it says, or no metres.
    """
    cloud = cloud_to_array(message, TIME_FIELDS)
    with np.errstate(over='ignore', invalid='ignore'):
        points: npt.NDArray[np.float32] = np.empty((3, cloud.size), np.float32)
        for row, axis in zip(points, 'xyz'):
            row[:] = cloud[axis].ravel()
    good = is_point(points)
    seconds = None
    for name in TIME_FIELDS:
        if name in (cloud.dtype.names or ()):
            seconds = _seconds_after(cloud[name].ravel(), stamp_of(message.header))
            break
    if not good.all():
        points = points[:, good]
        seconds = None if seconds is None else seconds[good]
    check_metres(np.linalg.norm(points[:, ::1 + points.shape[1] // (8 * SAMPLED)], axis=0),
                 'points at distances')
    return SensorPoints(points, seconds)


def _seconds_after(times: npt.NDArray[Any], stamp: int) -> npt.NDArray[np.float32] | None:
    """float32 N seconds after a stamp (ns) from a cloud's own field of times; None: it says none.

    Drivers give seconds (float32), ns (whole numbers), or the time of day in either (float64).
    """
    if times.dtype.kind == 'f':
        values = times.astype(np.float64)
        if values.size and np.nanmedian(values) > 1e17:  # ns since 1970
            values = (values - stamp) / 1e9
        elif values.size and np.nanmedian(values) > 1e8:  # seconds since 1970
            values -= stamp / 1e9
    elif times.size and times[0] > 10**17:
        values = (times.astype(np.int64) - stamp) / 1e9
    else:
        values = times / 1e9
    with np.errstate(invalid='ignore'):
        plausible = np.abs(values) < MAX_SWEEP
    if not plausible.size or plausible.mean() < 0.9 or np.ptp(values[plausible]) < 1e-4:
        return None
    return np.where(plausible, values, 0).astype(np.float32)


def is_point(points: npt.NDArray[np.float32]) -> Mask:
    """Which points of a cloud were measured.

    Left out are those that are not finite, those in the sensor's own place, those at a distance
    that :func:`is_measurement` leaves out, and a point that comes again and again: where a cloud
    was moved to another frame, its (0, 0, 0) went along.

    Args:
        points: 3×N metres in the sensor's frame.

    Returns:
        bool N.
    """
    with np.errstate(over='ignore', invalid='ignore'):
        squared = np.einsum('ij,ij->j', points, points)
        good = (squared > ORIGIN ** 2) & (squared < FARTHEST ** 2)  # NaN neither
    known = np.flatnonzero(good)
    sample = points[:, known[::-(-known.size // (8 * SAMPLED)) or 1]]
    lowest, highest = code_limits(np.linalg.norm(sample, axis=0))
    if lowest > 0 or highest < np.inf:
        good &= (squared > lowest ** 2) & (squared < highest ** 2)
    for point in _repeated_among(sample):
        good &= (points != point[:, None]).any(0)
    if (large := np.flatnonzero(squared > CODES[0] ** 2 / 2)).size:
        far = np.abs(points[:, large])
        # a code may be told along the axis that looks ahead, too
        good[large] &= ~(_is_code(np.sqrt(squared[large])) | _is_code(far[0]) | _is_code(far[2]))
    return good


def _repeated_among(sample: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """M×3 points that come again and again among 3×N."""
    sample = sample[:, ::-(-sample.shape[1] // SAMPLED) or 1]
    if sample.shape[1] < 2 * REPEATED:
        return np.zeros((0, 3), np.float32)
    places, counts = np.unique(sample, axis=1, return_counts=True)
    return places[:, counts >= max(REPEATED, REPEATED_SHARE * sample.shape[1])].T


def measured_range(message: Any) -> float | None:
    """Metres that a sensor_msgs/Range measured; None where it met nothing.

    Raises:
        ValueError: its limits are no numbers, or the wrong way round.
    """
    nearest, farthest = float(message.min_range), float(message.max_range)
    if np.isnan([nearest, farthest]).any() or 0 < farthest < nearest:
        raise ValueError(f'the range lies in {nearest:g} to {farthest:g} m: have its driver fill '
                         'min_range and max_range')
    distance = float(message.range)
    measured = is_measurement(np.array([distance], np.float32), nearest, farthest)[0]
    return distance if measured else None


def field_of_view(message: Any) -> tuple[float, str]:
    """Radians of a sensor_msgs/Range's cone, and a sentence where they are not as told.

    Raises:
        ValueError: it is no number, or no angle.
    """
    angle = float(message.field_of_view)
    if not 0 <= angle <= 180:  # NaN neither
        raise ValueError(f'field_of_view is {angle:g} rad: have the driver of the range fill it')
    if angle > MAX_CONE:
        return float(np.deg2rad(angle)), f'field_of_view {angle:g} is taken for degrees'
    return angle, ''
