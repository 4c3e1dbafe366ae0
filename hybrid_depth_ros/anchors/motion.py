"""Anchors from a camera's own motion: image points, tracked between frames whose poses are known.

Corners are tracked from the last keyframe to the current frame
(:mod:`~hybrid_depth_ros.anchors.tracking`). Where a frame becomes a keyframe, the poses of the last
keyframes and each track's inverse depth are adjusted together; in the frames between, only their
own pose is (:mod:`~hybrid_depth_ros.anchors.bundle_adjustment`). Odometry's lengths give the scale,
its angles are corrected by the tracks. The standard deviation of each depth follows from the same
equations, so it is large where there is little parallax; anchors that say too little are left out.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.bundle_adjustment import (
    OF_FRAMES,
    AdjustmentSettings,
    Floats,
    Window,
    adjust,
    rotation_vectors,
)
from hybrid_depth_ros.anchors.odometry_delay import OdometryDelay
from hybrid_depth_ros.anchors.tracking import (
    WINDOW,
    CornerTracker,
    Image,
    camera_turn,
    detect_corners,
    on_plane,
)
from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics


@dataclass(frozen=True)
class MotionSettings(AdjustmentSettings):
    """Constants of :class:`MotionAnchors`, beside those of the adjustment.

    Attributes:
        image_pixels: width × height to which an image is reduced before tracking.
        max_tracks: tracks at a time.
        search_angle: error of a predicted turn from which tracking is repeated, degrees.
        max_keyframes: length of the window.
        keyframe_move: movement that makes a keyframe, share of the median depth.
        keyframe_turn: turn that makes a keyframe, degrees.
        keyframe_tracks: share of tracks still seen below which a keyframe is made.
        min_tracks: fewest tracks of a keyframe that is kept.
        outlier: residual of what does not stand still, standard deviations.
        scale_sd: standard deviation of what all depths have in common, share.
        unchecked_sd: besides, of a track that only two frames have seen, share.
        max_sd: standard deviation above which a depth is no anchor, share.
        min_known: share of the tracks whose depth is known below which none is an anchor.
        first_inverse_depth: of tracks as long as no depth is known, 1/m.
        max_gap: seconds between frames after which tracking starts anew.
        max_speed: m/s, above which a pose has jumped.
        warn_turn: share of the turns by which poses may contradict the tracks.
        max_turn: share from which nothing is believed.
        max_step_error: error of steps from which nothing is believed, standard deviations.
        max_missed: likewise, share of what odometry measured.
        max_pixel_sd: standard deviation of tracking, pixels, from which nothing is believed.
    """

    image_pixels: int = 76800
    max_tracks: int = 300
    search_angle: float = 1.0
    max_keyframes: int = 12
    keyframe_move: float = 0.03
    keyframe_turn: float = 4.0
    keyframe_tracks: float = 0.75
    min_tracks: int = 12
    outlier: float = 4.0
    scale_sd: float = 0.03
    unchecked_sd: float = 0.1
    max_sd: float = 0.25
    min_known: float = 0.3
    first_inverse_depth: float = 0.5
    max_gap: float = 2.0
    max_speed: float = 5.0
    warn_turn: float = 0.25
    max_turn: float = 0.6
    max_step_error: float = 1.5
    max_missed: float = 1.5
    max_pixel_sd: float = 1.0


class MotionAnchors:
    """Anchors of one camera, from frame to frame.

    Args:
        intrinsics: of the images, which have no distortion.
        settings: constants.

    Attributes:
        reason: why the last frame's poses are not believed, or should be looked at; else empty.
        believed: whether poses and tracks agree so far that there may be anchors.
        common_sd: standard deviation of what the last frame's depths have in common, share.
        note: why there are no anchors though nothing is wrong; else empty.
        reach: half of the side of the window by which a track is found, pixels of the image.
    """

    def __init__(self, intrinsics: Intrinsics,
                 settings: MotionSettings = MotionSettings()) -> None:
        self._s = settings
        width, height = intrinsics.width, intrinsics.height
        shrink = min(1.0, float(np.sqrt(settings.image_pixels / (width * height))))
        self.reach = WINDOW / 2 / shrink
        self._odometry = OdometryDelay()
        self._size = max(1, round(width * shrink)), max(1, round(height * shrink))
        self._full_size = width, height
        self._shrink = np.array(self._size) / (width, height)
        self._focal = np.array([intrinsics.fx, intrinsics.fy]) * self._shrink
        self._centre = (np.array([intrinsics.cx, intrinsics.cy]) + 0.5) * self._shrink - 0.5
        self._camera = np.array([[self._focal[0], 0, self._centre[0]],
                                 [0, self._focal[1], self._centre[1]], [0, 0, 1]])
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._frames: Window | None = None
        self._typical = self._s.first_inverse_depth
        self.reason = self.note = ''
        self.common_sd = np.inf
        self.believed = True
        self._odometry.clear()
        self._pose: Floats = np.eye(4)
        self._stamp = 0.0

    def __call__(self, gray: Image, pose: npt.NDArray[np.floating], stamp: float) -> Anchors:
        """The anchors of a frame.

        Args:
            gray: uint8 H×W, undistorted.
            pose: 4×4 of the optical frame in a frame that stays, metres.
            stamp: of the frame, seconds.

        Returns:
            Tracked points whose depth is known; none in the first frames.

        Raises:
            ValueError: the image is of another size than the intrinsics, or the pose is none.
        """
        if gray.shape[::-1] != self._full_size:
            raise ValueError(f'the image has {gray.shape[1]}×{gray.shape[0]} pixels, its '
                             f'intrinsics are of {self._full_size[0]}×{self._full_size[1]}')
        matrix: Floats = np.asarray(pose, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError('a pose must be 4×4 finite numbers')
        image = gray if gray.shape[::-1] == self._size else cv2.resize(
            gray, self._size, interpolation=cv2.INTER_AREA)
        self.reason = self.note = ''
        if self._frames is not None:
            passed = stamp - self._stamp
            jump = float(np.linalg.norm(matrix[:3, 3] - self._pose[:3, 3]))
            if not 0 < passed <= self._s.max_gap:
                self._frames = None
            elif jump > 0.2 + self._s.max_speed * passed:
                self._frames = None
                self.reason = f'the pose jumped by {jump:.3g} m within {passed:.3g} s'
        if self._frames is None:
            self._odometry.clear()
            self._odometry.add(stamp, matrix)
            self._begin(image, stamp)
            anchors = Anchors.joined(())
        else:
            self._odometry.add(stamp, matrix)
            changed = self._track(image, stamp)
            self._take_steps(stamp, changed)
            is_key = self._adjust()
            self._reject()
            self._judge()
            anchors = self._anchors()
            if is_key:
                self._make_key(image, stamp)
        self._pose, self._stamp = matrix, stamp
        return anchors

    @property
    def delay(self) -> float:
        """Seconds by which the poses are late, below 0: early; 0 where that is little or unknown.
        It is taken into account."""
        return self._odometry.seconds

    @property
    def _current(self) -> Window:
        if self._frames is None:
            raise LookupError('there was no frame yet')
        return self._frames

    def _begin(self, image: Image, stamp: float) -> None:
        self._tracker, self._stamps = CornerTracker(self._camera, image), [stamp]
        self._tracked_rotation = np.eye(3)
        none = np.empty((1, 0))
        self._frames = Window(np.eye(3)[None], np.zeros((1, 3)), np.empty((0, 4, 4)),
                               none.astype(bool), none, none, none[0], none[0])
        self._add_tracks(image)
        self._open_frame()

    def _open_frame(self) -> None:
        """Append the slot of the current frame, which each frame fills anew."""
        w = self._current
        for name in OF_FRAMES:
            values = getattr(w, name)
            setattr(w, name, np.concatenate((values, values[-1:])))
        w.steps = np.concatenate((w.steps, np.eye(4)[None]))

    def _pixels(self, x: Floats, y: Floats) -> Floats:
        return np.stack((x, y), -1) * self._focal + self._centre

    # tracking

    def _take_steps(self, stamp: float, recompute_all: bool) -> None:
        """Fill the steps that end in this frame, or ended beyond odometry's last pose before it."""
        w, stamps, odometry = self._current, [*self._stamps, stamp], self._odometry
        last = len(stamps) - 2
        for number, (start, end) in enumerate(zip(stamps, stamps[1:])):
            if not (recompute_all or number == last or end + odometry.seconds > self._stamp):
                continue
            if odometry.knows(start):
                w.steps[number] = odometry.step(start, end)
            elif number == last:  # the robot stood for long, or early odometry has just begun
                w.steps[last] = w.steps[last] @ odometry.step(self._stamp, stamp)
        w.extrapolation_sd = odometry.extrapolation_sd(np.array(stamps))

    def _track(self, image: Image, stamp: float) -> bool:
        """Fill the current frame's slot: its pose by odometry, and where the tracks lie. Returns
        whether odometry is known to be late by another time now."""
        s, w = self._s, self._current
        move = self._odometry.step(self._stamp, stamp)
        last = w.rotation[-1].copy(), w.position[-1].copy()
        w.rotation[-1] = last[0] @ move[:3, :3]
        w.position[-1] = last[1] + last[0] @ move[:3, 3]
        known = w.sd < 0.5 * w.rho
        if np.count_nonzero(known) > 10:
            self._typical = float(np.median(w.rho[known]))
        rho = np.where(known, w.rho, self._typical)
        points = np.stack((w.x[-2], w.y[-2], np.ones_like(w.rho)), -1)
        moved = points - rho[:, None] * w.position[-1]
        # where a track was in the last frame, and what its prediction was off there
        before = (points - rho[:, None] * last[1]) @ last[0]
        off = np.where(w.seen[-1][:, None],
                       np.stack((w.x[-1], w.y[-1]), -1) - on_plane(before), 0).clip(-0.1, 0.1)
        start = self._pixels(w.x[-2], w.y[-2])
        for again in (True, False):
            guess = on_plane(moved @ w.rotation[-1]) + off
            found, good = self._tracker.match(
                image, start, guess * self._focal + self._centre, w.rotation[-1].T)
            place = (found - self._centre) / self._focal
            turn = camera_turn(guess[good], place[good])
            w.rotation[-1] = w.rotation[-1] @ cv2.Rodrigues(turn)[0]
            if not (again and np.linalg.norm(turn) > np.deg2rad(s.search_angle)):
                break
        w.x[-1], w.y[-1], w.seen[-1] = place[:, 0], place[:, 1], good & w.seen[-2]
        image_turn = rotation_vectors((self._tracked_rotation.T @ w.rotation[-1])[None])[0]
        self._tracked_rotation = w.rotation[-1].copy()  # before odometry's turns count, too
        return self._odometry.compare(
            image_turn if np.count_nonzero(good) > s.min_tracks else None)

    def _adjust(self) -> bool:
        """Adjust the current frame, or all if it is a keyframe: returns whether it is."""
        w = self._current
        if len(w.seen) > 2:
            last = w.last()
            adjust(last, self._focal, self._s, 2, self._believed_depths, w.pixel_sd)
            if not self._is_keyframe(last):
                w.rho, w.sd = last.rho, last.sd
                return False
            w.rho = last.rho
        w.seen[-1] &= self._tracker.leads_back()
        adjust(w, self._focal, self._s, 1 if len(w.seen) > 2 else 2)
        return len(w.seen) > 2 or self._is_keyframe(w)

    def _reject(self) -> None:
        """Give up tracks of what does not stand still."""
        s, w = self._s, self._current
        x, y, self._z = w.project()
        size = np.hypot((w.x - x) * self._focal[0], (w.y - y) * self._focal[1])
        seen = w.seen.copy()
        seen[-2] = False
        off = seen & (size > s.outlier * max(w.pixel_sd, 0.25))
        moving = off.sum(0) > np.maximum(seen.sum(0), 1) / 3
        w.seen[-1, moving] = False
        w.seen[-2, moving] = False

    def _judge(self) -> None:
        """See whether poses and tracks agree, as far as both tell."""
        s, w = self._s, self._current
        relative, moved = w.adjusted_steps()
        error = np.linalg.norm(w.steps[:, :3, 3] - moved, axis=1)
        length = np.linalg.norm(w.steps[:, :3, 3], axis=1)
        sd = s.step_sd * length + s.step_noise + w.extrapolation_sd
        missed = error.sum() / (length + s.step_noise / 2).sum()
        off = np.rad2deg(np.linalg.norm(rotation_vectors(
            w.steps[:, :3, :3].transpose(0, 2, 1) @ relative), axis=1).sum())
        turn = np.rad2deg(np.linalg.norm(rotation_vectors(w.steps[:, :3, :3]), axis=1).sum())
        share = off / (turn + 1)
        self.believed = w.pixel_sd <= s.max_pixel_sd
        if off > 3 and share > s.warn_turn:
            self.believed = self.believed and bool(share < s.max_turn)
            self.reason = (f'the image turns otherwise than the poses, by {off:.0f}° while they '
                           f'turn {turn:.0f}°: see whether they are those of the optical frame, '
                           'and whether the stamps of images and poses agree')
        elif missed > s.max_missed or (error / sd).mean() / np.sqrt(3) > s.max_step_error:
            self.believed = False
            self.reason = ('the image moves otherwise than the poses: see whether they are those '
                           'of the optical frame, and whether they still come')
        if w.pixel_sd > s.max_pixel_sd:
            self.reason += ('; ' if self.reason else '') + (
                'tracks are too uncertain: blur, moving things, or poses of another frame')

    def _anchors(self) -> Anchors:
        s, w = self._s, self._current
        with np.errstate(divide='ignore', invalid='ignore'):
            # the scale comes from what odometry measured, not from where the steps were adjusted to
            path = np.linalg.norm(w.steps[:, :3, 3], axis=1).sum()
            scale = np.hypot(s.scale_sd, s.step_noise * np.sqrt(len(w.steps)) / path)
            share = np.hypot(w.sd / w.rho, scale)
            self.common_sd = float(np.hypot(w.common_sd, scale))
            depth = self._z[-1] / w.rho
        good = w.seen[-1] & (w.rho > 0) & (share < s.max_sd) & (self._z[-1] > 0.06)
        # where few depths are known, those are the ones that noise made near
        seen = np.count_nonzero(w.seen[-1])
        if (not self.believed or self.common_sd > s.max_common_sd
                or np.count_nonzero(good) < s.min_known * seen):
            good[:] = False
        if not (good.any() or self.reason):
            self.note = 'nothing to track' if seen < s.min_tracks else 'too little parallax yet'
        share = np.hypot(share, s.unchecked_sd * (w.seen.sum(0) < 3))  # a third shows errors
        u, v = ((self._pixels(w.x[-1, good], w.y[-1, good]) + 0.5) / self._shrink - 0.5).T
        return Anchors(*(values.astype(np.float32) for values in (
            u, v, depth[good], (share * depth)[good])))

    # keyframes

    def _is_keyframe(self, w: Window) -> bool:
        s = self._s
        seen = w.seen[-1]
        good = seen & (w.rho > 0)
        near = np.median(w.rho[good]) if good.any() else self._typical
        turned = np.linalg.norm(rotation_vectors(w.rotation[-1:]))
        return bool(np.linalg.norm(w.position[-1]) * near > s.keyframe_move
                    or turned > np.deg2rad(s.keyframe_turn)
                    or np.count_nonzero(seen) < s.keyframe_tracks * np.count_nonzero(w.seen[-2])
                    or np.count_nonzero(seen) < 30)

    def _make_key(self, image: Image, stamp: float) -> None:
        """Make the current frame the last keyframe: all else is expressed in its frame."""
        s, w = self._s, self._current
        keep = w.seen[-1]
        with np.errstate(divide='ignore'):
            factor = 1 / self._z[-1]
        w.rho, w.sd = (w.rho * factor)[keep], (w.sd * factor)[keep]
        w.seen, w.x, w.y = w.seen[:, keep], w.x[:, keep], w.y[:, keep]
        left, _, right = np.linalg.svd(w.rotation)  # else rounding doubles with each keyframe
        w.rotation = left @ right
        rotation, position = w.rotation[-1].T, w.position[-1]
        w.position = (w.position - position) @ rotation.T
        w.rotation = rotation @ w.rotation
        self._tracker, self._tracked_rotation = CornerTracker(self._camera, image), np.eye(3)
        self._stamps.append(stamp)
        if len(w.position) > s.max_keyframes:
            near = np.median(w.rho) if w.rho.size else 1
            small = np.linalg.norm(w.position[-2]) * near < 0.5 * s.keyframe_move
            self._drop(len(w.position) - 2 if small else 0)
        while len(w.seen) > 1 and np.count_nonzero(w.seen[0]) < s.min_tracks:
            self._drop(0)
        self._add_tracks(image)
        self._open_frame()

    def _drop(self, number: int) -> None:
        """Leave out a frame; its steps become one."""
        w = self._current
        if number:
            w.steps[number - 1] = w.steps[number - 1] @ w.steps[number]
        w.steps = np.delete(w.steps, number, 0)
        del self._stamps[number]
        for name in OF_FRAMES:
            setattr(w, name, np.delete(getattr(w, name), number, 0))

    def _add_tracks(self, image: Image) -> None:
        w = self._current
        corners = detect_corners(image, self._pixels(w.x[-1], w.y[-1]), self._s.max_tracks)
        points = (corners - self._centre) / self._focal
        count, frames = len(points), len(w.seen)
        known = w.sd < 0.5 * w.rho
        if np.count_nonzero(known) > 10:
            self._typical = float(np.median(w.rho[known]))
        w.rho = np.concatenate((w.rho, np.full(count, self._typical)))
        w.sd = np.concatenate((w.sd, np.full(count, np.inf)))
        seen = np.zeros((frames, count), bool)
        seen[-1] = True
        w.seen = np.concatenate((w.seen, seen), 1)
        for name, values in (('x', points[:, 0]), ('y', points[:, 1])):
            rows = np.repeat(values[None], frames, 0)
            setattr(w, name, np.concatenate((getattr(w, name), rows), 1))
        self._believed_depths = w.rho.copy(), w.sd.copy()
