"""A camera's anchors from all its sources, and its depth corrected by them, frame after frame.

Neither knows nor needs ROS: messages are taken by their fields, poses from whoever knows them.
"""

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from hybrid_depth_ros.anchors.correction import anchored
from hybrid_depth_ros.anchors.extrinsics_check import Alignment
from hybrid_depth_ros.anchors.floor import down_from_pitch, find_floor
from hybrid_depth_ros.anchors.scale_shift import fit_scale_shift
from hybrid_depth_ros.anchors.sensors import cloud_points, project, range_anchors, scan_points
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.stamps import stamp_of

KINDS = ('scan', 'points', 'range', 'floor')
OTHER_UNITS = 60  # times farther or nearer than depth: no network is so wrong
KEPT = 50  # messages of a source that may still be the one nearest to a picture


class AnchorSettings(NamedTuple):
    """How anchors are used. age: seconds that a measurement's stamp may lie from the picture's.
    time_constant, smooth: as of ``anchored``. camera_height: metres above the floor, 0: it is the
    pose of floor_frame that tells; camera_pitch, camera_roll: degrees that it looks down, and that
    it is turned clockwise as seen from behind it, with a height.
    """

    age: float = 0.5
    time_constant: float = 0.5
    smooth: bool = False
    camera_height: float = 0.0
    camera_pitch: float = 0.0
    camera_roll: float = 0.0
    floor_frame: str = 'base_footprint'


class View(NamedTuple):
    """The picture that depth belongs to. stamp: ns. frame: its optical frame. intrinsics or None.
    """

    stamp: int
    frame: str
    intrinsics: Any


def source_kind(name):
    """``scan``, ``points``, ``range`` or ``floor`` of a source's name, ``scan`` or ``scan/rear``.

    Raises ValueError for another one.
    """
    kind, _, rest = name.partition('/')
    if kind not in KINDS or (kind == 'floor' and rest) or name.endswith('/'):
        raise ValueError(f'anchors has the source {name!r}; it must be one of {", ".join(KINDS)}, '
                         'of several of a kind with a name behind it: scan/rear')
    return kind


class _Source:
    def __init__(self, name, pose):
        self.name, self.kind, self.pose = name, source_kind(name), pose
        self.messages = deque(maxlen=KEPT)
        self.reset()

    def reset(self):
        self.messages.clear()
        self.received = self.used = self.rejected = 0
        self.trouble = self.note = ''  # why it isn't used, and why it needn't be
        self.alignment = Alignment()


class Anchoring:
    """What corrects one camera's depth.

    names: of the sources, see :func:`source_kind`. fixed: a 4×4 pose or None for each, with or
    without the floor, which needs none; or one for all. poses: where there is None: called with
    (frame, stamp) of the picture and of the measurement, frames' names and ns, for the pose of the
    second in the first; raises LookupError, a sentence. Raises ValueError for a name that will not
    do.
    """

    def __init__(self, names, fixed=(None,), poses=None):
        fixed = list(fixed)
        sensors = [name for name in names if source_kind(name) != 'floor']
        if len(fixed) not in (1, len(sensors), len(names)):
            raise ValueError(f'there are {len(fixed)} poses for {len(sensors)} sensors '
                             f'({", ".join(sensors)}): give one for all, or one for each')
        if len(fixed) == 1:
            fixed *= len(names)
        elif len(fixed) == len(sensors):
            fixed = [fixed[sensors.index(name)] if name in sensors else None for name in names]
        if len(set(names)) != len(names):
            raise ValueError(f'anchors is {list(names)}; name each source once')
        self.sources = {name: _Source(name, pose) for name, pose in zip(names, fixed)}
        self._poses = poses
        self.reset()

    def reset(self):
        """Forget measurements, and what was carried from frame to frame."""
        self._state = self.result = self.line = None
        self.anchors = Anchors.joined(())  # of the last frame, all of them
        for source in self.sources.values():
            source.reset()

    def take(self, name, message):
        """Keep a measurement of a source: a message of its kind."""
        source = self.sources[name]
        source.received += 1
        source.messages.append(message)

    def correct(self, depth, view, settings, relative=False):
        """Depth (float32 H×W metres) of a View, corrected; :attr:`result` tells more.

        relative: it is inverse depth without scale and shift, and becomes metres first, by what
        :attr:`line` holds. Raises LookupError where nothing gives them.
        """
        if relative:
            depth = self._metres(depth, view, settings)
        parts = list(self._measured(self.sources.values(), depth, view, settings))
        joined = Anchors.joined([anchors for _, anchors in parts])
        self.result = anchored(
            depth, joined, self._state, stamp=view.stamp / 1e9,
            time_constant=settings.time_constant, smooth=settings.smooth)
        self._state = self.result.state
        first = 0
        for source, anchors in parts:
            own = slice(first, first + len(anchors))
            first += len(anchors)
            source.used = int(np.count_nonzero(self.result.used[own]))
            source.rejected = int(np.count_nonzero(self.result.usable[own])) - source.used
            if source.kind in ('scan', 'points'):
                source.alignment.add(depth, anchors)
        self.anchors = joined
        return self.result.depth

    def _metres(self, relative, view, settings):
        # what an ultrasound's cone meets first is asked of depth: of the last line's, or of a guess
        if self.line:
            guess = self.line.metres(relative)
        else:
            with np.errstate(divide='ignore', invalid='ignore'):
                guess = np.where(relative > 0, np.nanmedian(relative) / relative, np.nan)
        # the floor is only found in metres
        sensors = [source for source in self.sources.values() if source.kind != 'floor']
        parts = [anchors for _, anchors in self._measured(sensors, guess, view, settings)]
        try:
            depth, self.line = fit_scale_shift(relative, Anchors.joined(parts), self.line,
                                      stamp=view.stamp / 1e9,
                                      time_constant=settings.time_constant)
        except LookupError:
            self._state = self.result = self.line = None
            raise
        return depth

    def _measured(self, sources, depth, view, settings):
        """(source, Anchors) of the sources that have some; the others' trouble is noted."""
        for source in sources:
            source.used = source.rejected = 0
            source.trouble = source.note = ''
            try:
                anchors = self._anchors_of(source, depth, view, settings)
            except (LookupError, ValueError) as error:
                source.trouble = ' '.join(str(error.args[0] if error.args else error).split())
                continue
            yield source, anchors

    def misaligned(self):
        """Names of the sources that seem to look elsewhere than their poses say, each with where
        they would fit better: (right, down) in shares of the picture's width."""
        return {name: shift for name, source in self.sources.items()
                if (shift := source.alignment.shift)}

    def _anchors_of(self, source, depth, view, settings):
        if view.intrinsics is None:
            raise LookupError('no camera_info: anchors have no place in the picture')
        size, (height, width) = (view.intrinsics.width, view.intrinsics.height), depth.shape
        if size != (width, height):
            raise LookupError(f'camera_info is of {size[0]}×{size[1]} pixels, depth of {width}×'
                              f'{height}: anchors have no place in it')
        if source.kind == 'floor':
            return self._floor(source, depth, view, settings)
        if not source.messages:
            raise LookupError('nothing came')
        message = min(tuple(source.messages), key=lambda m: abs(stamp_of(m.header) - view.stamp))
        stamp = stamp_of(message.header)
        away = abs(stamp - view.stamp) / 1e9
        if away > settings.age:
            raise LookupError(f'the nearest one is {away:.3g} s away from the picture: see whether '
                              'it still comes, whether the clocks agree, or allow more age')
        pose = source.pose
        if pose is None:
            pose = self._poses(view.frame, view.stamp, message.header.frame_id, stamp)
        if source.kind == 'range':
            anchors = range_anchors(message, pose, depth, view.intrinsics)
        else:
            points = scan_points(message) if source.kind == 'scan' else cloud_points(message)
            anchors = project(points, pose, view.intrinsics)
        _check_units(anchors, depth)
        return anchors

    def _floor(self, source, depth, view, settings):
        if settings.camera_height > 0:
            height = settings.camera_height
            down = down_from_pitch(settings.camera_pitch, settings.camera_roll)
        else:
            pose = self._poses(view.frame, view.stamp, settings.floor_frame, view.stamp)
            down, origin = -pose[:3, 2], pose[:3, 3]  # z of the floor's frame points up
            height = float(down @ origin)
            if not height > 0.01:
                raise LookupError(f'{view.frame} is {height:.2f} m above {settings.floor_frame}: '
                                  'that is no camera above a floor; see floor_frame, or set '
                                  'camera_height')
        floor = find_floor(depth, view.intrinsics, height, down)
        source.note = floor.reason
        return floor.anchors


def _check_units(anchors, depth):
    """Raises ValueError where anchors can hardly be metres, as depth is."""
    known = depth[::8, ::8]
    known = known[np.isfinite(known) & (known > 0)]
    if not (len(anchors) and known.size):
        return
    measured, seen = float(np.median(anchors.depth)), float(np.median(known))
    if not seen / OTHER_UNITS < measured < seen * OTHER_UNITS:
        raise ValueError(f'it measures {measured:.4g} m where depth is {seen:.3g} m: have its '
                         'driver give metres, not millimetres or centimetres (REP 103)')
