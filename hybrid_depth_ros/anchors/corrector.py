"""A camera's anchors from all its sensors, and its depth corrected by them, frame after frame.

It neither knows nor needs ROS: messages are taken by their fields, poses from whoever knows them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.correction import Anchored, complete_depth
from hybrid_depth_ros.anchors.depth_image import MAX_AGE, read_depth_image
from hybrid_depth_ros.anchors.floor import find_floor
from hybrid_depth_ros.anchors.hole_filling import (
    anchors_among,
    fill_holes,
    fill_remaining_holes,
)
from hybrid_depth_ros.anchors.measurements import field_of_view, read_cloud, read_scan
from hybrid_depth_ros.anchors.motion import MotionAnchors
from hybrid_depth_ros.anchors.odometry_check import moved_to_their_side, weighed
from hybrid_depth_ros.anchors.orientation_check import looks_elsewhere
from hybrid_depth_ros.anchors.scale_shift import ScaleShift, fit_scale_shift
from hybrid_depth_ros.anchors.sensor_poses import (
    PoseLookup,
    SensorPoses,
    camera_above_floor,
    pose_of_each,
    sentence,
)
from hybrid_depth_ros.anchors.sensors import (
    limited_by_prior,
    looks_beside,
    project,
    range_anchors,
)
from hybrid_depth_ros.anchors.smoothing import TemporalState
from hybrid_depth_ros.anchors.source import AnchorSource, Depth
from hybrid_depth_ros.anchors.types import Anchors, AnchorSettings, ImageInfo
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import Pose, deskewed
from hybrid_depth_ros.stamps import stamp_of

IMPLAUSIBLE_RATIO = 60  # between measured and predicted depth: no network is so wrong

# from predicted depth to anchors: what an ultrasound hears, and where the floor is, depends on it
Measurement = Callable[[Depth], Anchors]


@dataclass(frozen=True)
class CorrectedDepth:
    """The corrected depth of one frame.

    Attributes:
        depth: float32 H×W metres.
        anchors: all that the sources gave, one after the other.
        completion: what they did to depth.
        scale_shift: by which relative inverse depth became metres; None for a metric network.
    """

    depth: Depth
    anchors: Anchors
    completion: Anchored
    scale_shift: ScaleShift | None = None


class AnchorCorrector:
    """What corrects one camera's depth by its anchors.

    Args:
        names: of the sources, see :func:`source_kind`.
        poses: 4×4 in the optical frame or None for each source, with or without depth and the
            floor, which need none; or one for all.
        lookup: for sources whose pose is None; it raises LookupError with a sentence.

    Attributes:
        sources: :class:`AnchorSource` by name.
        last: the :class:`CorrectedDepth` of the last frame; None where there is none.

    Raises:
        ValueError: a name will not do, or there are too few or too many poses.
    """

    def __init__(self, names: Sequence[str], poses: Sequence[Pose | None] = (None,),
                 lookup: PoseLookup | None = None) -> None:
        self.sources = {name: AnchorSource(name, pose)
                        for name, pose in zip(names, pose_of_each(names, poses))}
        self._poses = SensorPoses(lookup, self.sources.get('motion'))
        self.reset()

    def reset(self) -> None:
        """Forget measurements, and what was carried from frame to frame."""
        self.last: CorrectedDepth | None = None
        self._state: TemporalState | None = None
        for source in self.sources.values():
            source.reset()

    def take(self, name: str, message: Any) -> None:
        """Keep a measurement of a source: a message of its kind."""
        self.sources[name].take(message)

    def correct(self, depth: Depth, image: ImageInfo, settings: AnchorSettings,
                relative: bool = False) -> CorrectedDepth:
        """The depth of an image, corrected.

        Args:
            depth: H×W metres, or inverse depth without scale and shift.
            image: which it belongs to.
            settings: how anchors are used.
            relative: whether it is such inverse depth. It becomes metres first.

        Raises:
            LookupError: it is relative and no anchor gives metres.
        """
        measurements = dict(self._measurements(image, depth.shape, settings, relative))
        scale_shift = None
        if relative:
            try:
                depth, scale_shift = self._metres(depth, image, settings, measurements)
            except LookupError:
                self.last = self._state = None
                raise
        parts = self._anchors(measurements, depth)
        if len(parts.get('motion', ())):
            parts['motion'] = self._weighed_motion(parts, depth, image, settings)
        if all(self.sources[name].kind == 'range' for name, part in parts.items() if len(part)):
            parts = {name: limited_by_prior(part, depth) for name, part in parts.items()}
        if ('depth' in measurements and 'depth' not in parts and self._state
                and self._state.of_depth_image):
            self._state = None  # nor is what it said before believed
        completion, parts = self._completed(depth, parts, image, settings)
        if [name for name, part in parts.items() if len(part)] == ['motion'] and (
                motion := self.sources['motion'].motion):
            completion = replace(completion, common_sd=motion.common_sd)
        anchors = completion.anchors or Anchors.joined(())
        first = 0
        for name, part in parts.items():
            own = slice(first, first + len(part))
            first += len(part)
            self.sources[name].finish_frame(depth, part, completion.used[own],
                                            completion.usable[own])
        self._state = completion.state
        self.last = CorrectedDepth(completion.depth, anchors, completion, scale_shift)
        return self.last

    def _weighed_motion(self, parts: dict[str, Anchors], depth: Depth, image: ImageInfo,
                        settings: AnchorSettings) -> Anchors:
        """The anchors by motion as far as they are to be followed; none where odometry's lengths
        contradict what else is known."""
        source, intrinsics = self.sources['motion'], image.intrinsics
        assert source.motion is not None and intrinsics is not None  # they gave the anchors
        floor = None
        with suppress(LookupError):  # most robots need not know how high their camera is
            floor = (intrinsics, *self._above_floor(source, image, settings))
        trouble = source.odometry.add(parts['motion'], depth, {
            name: part for name, part in parts.items()
            if self.sources[name].kind in ('scan', 'points', 'depth', 'floor')}, floor)
        if trouble:
            source.trouble, self._state = trouble, None  # nor is what they said before believed
            return Anchors.joined(())
        motion = moved_to_their_side(parts['motion'], depth, source.motion.reach)
        return weighed(motion, depth, source.motion.common_sd)

    def _completed(self, depth: Depth, parts: dict[str, Anchors], image: ImageInfo,
                   settings: AnchorSettings) -> tuple[Anchored, dict[str, Anchors]]:
        """Depth completed by all anchors, and these by source, in the order of its `anchors`.

        A depth image goes over what the others say.
        """
        colours, stamp = image.gray if image.rgb is None else image.rgb, image.stamp / 1e9
        measured = self.sources['depth'].measured if 'depth' in parts else None
        others = {name: part for name, part in parts.items()
                  if measured is None or name != 'depth'}
        before = None
        if measured is None or any(map(len, others.values())):
            before = complete_depth(
                depth, Anchors.joined(others.values()), self._state, stamp=stamp, image=colours,
                time_constant=settings.time_constant, smooth=settings.smooth)
        if before is not None and measured is None:
            return before, others
        assert measured is not None
        filled = (fill_holes(depth, measured, colours, stamp=stamp) if before is None
                  else fill_remaining_holes(before, measured, colours))
        assert filled.measured is not None
        return filled, {**others, 'depth': anchors_among(measured, filled.measured)}

    def measure(self, depth: Depth, image: ImageInfo, settings: AnchorSettings) -> Anchors:
        """What the sources measured about an image, without a correction.

        Args:
            depth: H×W metres as predicted; NaN where nothing is known, which ranges and the floor
                can't do without.
            image: which it belongs to.
            settings: how anchors are used.
        """
        measurements = dict(self._measurements(image, depth.shape, settings))
        return Anchors.joined(self._anchors(measurements, depth).values())

    def misaligned(self) -> dict[str, tuple[float, float]]:
        """Names of the sources that seem to look elsewhere than their poses say, each with where
        they would fit better: (right, down) in shares of the image's width."""
        return {name: shift for name, source in self.sources.items()
                if (shift := source.extrinsics.shift)}

    def _metres(self, relative: Depth, image: ImageInfo, settings: AnchorSettings,
                measurements: Mapping[str, Measurement]) -> tuple[Depth, ScaleShift]:
        previous = self.last.scale_shift if self.last else None
        # what an ultrasound's cone meets first is asked of depth: by the last fit, or of a guess
        if previous:
            guess = previous.metres(relative)
        else:
            with np.errstate(divide='ignore', invalid='ignore'):
                guess = np.where(relative > 0, np.nanmedian(relative) / relative, np.nan)
        # the floor is only found in metres
        sensors = {name: measurement for name, measurement in measurements.items()
                   if self.sources[name].kind != 'floor'}
        return fit_scale_shift(relative, Anchors.joined(self._anchors(sensors, guess).values()),
                               previous, stamp=image.stamp / 1e9,
                               time_constant=settings.time_constant)

    def _measurements(self, image: ImageInfo, shape: tuple[int, ...], settings: AnchorSettings,
                      relative: bool = False) -> Iterator[tuple[str, Measurement]]:
        """What each source measured about an image; the others' trouble is noted.

        Messages are decoded, transformed and projected here, once a frame.
        """
        for name, source in self.sources.items():
            source.start_frame()
            try:
                if source.kind == 'depth':
                    yield name, _depth_measurement(source, image, shape, settings, relative)
                else:
                    yield name, self._measurement(source, image, shape, settings)
            except (LookupError, ValueError) as error:
                source.trouble = sentence(error)

    def _measurement(self, source: AnchorSource, image: ImageInfo, shape: tuple[int, ...],
                     settings: AnchorSettings) -> Measurement:
        intrinsics = image.intrinsics
        if intrinsics is None:
            raise LookupError('no camera_info: anchors have no place in the image')
        if image.other_camera:
            raise LookupError(image.other_camera)
        if (intrinsics.height, intrinsics.width) != shape:
            raise LookupError(
                f'camera_info is of {intrinsics.width}×{intrinsics.height} pixels, depth of '
                f'{shape[1]}×{shape[0]}: anchors have no place in it')
        if source.kind == 'floor':
            height, down = self._above_floor(source, image, settings)

            def floor(depth: Depth) -> Anchors:
                found = find_floor(depth, intrinsics, height, down)
                source.note = found.reason
                return found.anchors
            return floor
        if source.kind == 'motion':
            return self._motion(source, image, intrinsics, settings)
        message = source.nearest(image.stamp, settings.age)
        stamp = stamp_of(message.header)
        pose = self._poses.of_sensor(source, image, message.header.frame_id, stamp)
        if source.kind == 'range':
            source.warn(field_of_view(message)[1])
            if trouble := looks_beside(message, pose, intrinsics):
                raise ValueError(trouble)
            return lambda depth: _plausible(range_anchors(message, pose, depth, intrinsics), depth)
        points, seconds, silent, warning = (read_scan if source.kind == 'scan' else read_cloud
                                            )(message)
        source.warn(warning)
        if seconds is not None:
            points = deskewed(points, seconds, lambda after: self._poses.of_sensor(
                source, image, message.header.frame_id, stamp + round(1e9 * after)))
        anchors = project(points, pose, intrinsics)
        if trouble := looks_elsewhere(anchors, points, silent, pose, intrinsics):
            raise ValueError(trouble)

        def measurement(depth: Depth) -> Anchors:
            source.orientation.add(depth, points, pose, intrinsics)
            if source.orientation.trouble:
                raise ValueError(source.orientation.trouble)
            return _plausible(anchors, depth)
        return measurement

    def _above_floor(self, source: AnchorSource, image: ImageInfo, settings: AnchorSettings
                     ) -> tuple[float, npt.NDArray[np.floating]]:
        """As of :func:`camera_above_floor`. Notes and warnings go to `source`."""
        return camera_above_floor(image.frame, settings, lambda: self._poses.looked_up(
            source, image, settings.floor_frame, image.stamp))

    def _motion(self, source: AnchorSource, image: ImageInfo, intrinsics: Intrinsics,
                settings: AnchorSettings) -> Measurement:
        if image.gray is None:
            raise LookupError('there is no image: depth by motion needs one')
        if source.received:
            pose = self._poses.camera_by_odometry(source, image, image.stamp)
        else:
            if not settings.fixed_frame:
                raise LookupError('fixed_frame is empty: name a frame that stays, or send odometry')
            pose = np.linalg.inv(self._poses.looked_up(
                source, image, settings.fixed_frame, image.stamp))
        if source.motion is None or source.motion_intrinsics != intrinsics:
            source.motion, source.motion_intrinsics = MotionAnchors(intrinsics), intrinsics
        tracker = source.motion
        anchors = tracker(image.gray, pose, image.stamp / 1e9)

        def motion(depth: Depth) -> Anchors:
            source.trouble, source.note = tracker.reason, tracker.note
            if tracker.delay:
                source.warn(f'odometry {"lags" if tracker.delay > 0 else "leads"} the images by '
                            f'{abs(tracker.delay):.2f} s (found from the camera\'s turns); this is '
                            'compensated in depth by motion, not in the poses of other sensors: '
                            'check the stamps of both')
            if not tracker.believed:
                self._state = None
            return anchors
        return motion

    def _anchors(self, measurements: Mapping[str, Measurement], depth: Depth) -> dict[str, Anchors]:
        """The anchors of each source that has some; the others' trouble is noted."""
        found = {}
        for name, measurement in measurements.items():
            source = self.sources[name]
            source.trouble = ''
            try:
                found[name] = measurement(depth)
            except (LookupError, ValueError) as error:
                source.trouble = sentence(error)
        return found


def _depth_measurement(source: AnchorSource, image: ImageInfo, shape: tuple[int, ...],
                       settings: AnchorSettings, relative: bool) -> Measurement:
    message = source.nearest(image.stamp, settings.age, MAX_AGE)
    rectification = None if source.rectified else image.rectification
    measured = read_depth_image(message, shape, image.frame, rectification,
                                settings.min_depth, settings.max_depth)
    stamp, guessed = stamp_of(message.header), relative

    def depth_image(depth: Depth) -> Anchors:
        nonlocal guessed  # relative depth comes first as a guess, then in metres
        guess, guessed = guessed, False
        source.warn(source.depth_image.add(measured, depth, stamp, not relative, guess))
        source.measured = measured
        return anchors_among(measured, measured > 0)
    return depth_image


def _plausible(anchors: Anchors, depth: Depth) -> Anchors:
    """The anchors, where they can be metres as depth is.

    Raises:
        ValueError: they hardly can.
    """
    known = depth[::8, ::8]
    known = known[np.isfinite(known) & (known > 0)]
    if not (len(anchors) and known.size):
        return anchors
    measured, predicted = float(np.median(anchors.depth)), float(np.median(known))
    if not predicted / IMPLAUSIBLE_RATIO < measured < predicted * IMPLAUSIBLE_RATIO:
        raise ValueError(f'it measures {measured:.4g} m where depth is {predicted:.3g} m: have its '
                         'driver give metres, not millimetres or centimetres (REP 103)')
    return anchors
