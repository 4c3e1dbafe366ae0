"""Anchors from a camera's own motion: image points, tracked between frames whose poses are known.

Corners (Shi and Tomasi 1994) are tracked by pyramidal Lucas-Kanade, forwards and backwards, from
the last keyframe to the current frame. Over a window of keyframes all poses and each track's
inverse depth are adjusted together by robust least squares (bundle adjustment: Triggs et al. 2000;
keyframes and inverse depth as in VINS-Mono, Qin et al. 2018). Odometry's steps from keyframe to
keyframe are measurements in it: their lengths give the scale, their angles are corrected by the
tracks. The standard deviation of each depth follows from the same equations, so it is large where
there is little parallax, and anchors that say too little are left out.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.types import Anchors
from hybrid_depth_ros.geometry import Intrinsics

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MotionSettings:
    """Constants of :class:`MotionAnchors`; pixels are those of the image as it is tracked.

    Attributes:
        image_pixels: width × height to which an image is reduced before tracking.
        max_tracks: tracks at a time.
        cell_size: side of the cells that hold one track each, pixels.
        border: distance from the image's border within which nothing is tracked, pixels.
        min_corner: least eigenvalue of a corner, as of ``cv2.cornerMinEigenVal``.
        window_size: side of the Lucas-Kanade window, pixels.
        pyramid_levels: above the image itself.
        max_backward_error: by which tracking back may miss its start, pixels.
        warp_angle: turn from which the keyframe's image is turned before tracking, degrees.
        search_angle: error of a predicted turn from which tracking is repeated, degrees.
        max_keyframes: length of the window.
        keyframe_move: movement that makes a keyframe, share of the median depth.
        keyframe_turn: turn that makes a keyframe, degrees.
        keyframe_tracks: share of tracks still seen below which a keyframe is made.
        min_tracks: fewest tracks of a keyframe that is kept.
        step_sd: standard deviation of odometry's steps, share of their length.
        step_noise: what comes on top, metres.
        turn_sd: standard deviation of odometry's turns, share of their angle.
        turn_noise: what comes on top, degrees.
        pixel_sd: least standard deviation of tracking, pixels.
        common_error: error of tracking that frames have in common, standard deviations.
        huber: residual from which an observation loses weight, standard deviations.
        outlier: residual of what does not stand still, standard deviations.
        scale_sd: standard deviation of what all depths have in common, share.
        max_sd: standard deviation above which a depth is no anchor, share.
        min_known: share of the tracks whose depth is known below which none is an anchor.
        first_inverse_depth: of tracks as long as no depth is known, 1/m.
        max_gap: seconds between frames after which tracking starts anew.
        max_speed: m/s, above which a pose has jumped.
        warn_turn: share of the turns by which poses may contradict the tracks.
        max_turn: share from which nothing is believed.
        max_step_error: error of steps from which nothing is believed, standard deviations.
        max_missed: likewise, share of what odometry measured.
    """

    image_pixels: int = 76800
    max_tracks: int = 300
    cell_size: int = 13
    border: int = 6
    min_corner: float = 1e-4
    window_size: int = 11
    pyramid_levels: int = 3
    max_backward_error: float = 0.5
    warp_angle: float = 3.0
    search_angle: float = 1.0
    max_keyframes: int = 12
    keyframe_move: float = 0.03
    keyframe_turn: float = 4.0
    keyframe_tracks: float = 0.75
    min_tracks: int = 12
    step_sd: float = 0.05
    step_noise: float = 0.002
    turn_sd: float = 0.01
    turn_noise: float = 0.05
    pixel_sd: float = 0.15
    common_error: float = 1.5
    huber: float = 1.5
    outlier: float = 4.0
    scale_sd: float = 0.03
    max_sd: float = 0.2
    min_known: float = 0.3
    first_inverse_depth: float = 0.5
    max_gap: float = 2.0
    max_speed: float = 5.0
    warn_turn: float = 0.25
    max_turn: float = 0.6
    max_step_error: float = 3.0
    max_missed: float = 1.5


@dataclass
class _Window:
    """Frames and tracks that are adjusted together, in the last keyframe's optical frame.

    The last frame is the current one, the one before it the last keyframe, whose pose is the
    identity.

    rotation, position: W×3×3, W×3 of the frames. steps: (W − 1)×4×4, odometry from each frame to
    the next. seen: bool W×N, where a track was found. x, y: W×N, x / z and y / z there. rho: N,
    inverse depth in the last keyframe, 1/m; sd: its standard deviation.
    """

    rotation: Floats
    position: Floats
    steps: Floats
    seen: Bools
    x: Floats
    y: Floats
    rho: Floats
    sd: Floats


def _logs(rotations: Floats) -> Floats:
    """Rotation vectors (M×3) of rotations (M×3×3) below 180°."""
    cosine = np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)
    sine = np.stack((rotations[:, 2, 1] - rotations[:, 1, 2],
                     rotations[:, 0, 2] - rotations[:, 2, 0],
                     rotations[:, 1, 0] - rotations[:, 0, 1]), -1) / 2
    length = np.linalg.norm(sine, axis=1)
    angle = np.arctan2(length, cosine)
    return sine * np.where(length > 1e-9, angle / np.maximum(length, 1e-9), 1)[:, None]


def _skew(v: Floats) -> Floats:
    """M×3×3 matrices of the cross products with M×3 vectors."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = v[:, 2], -v[:, 1], v[:, 0]
    return out


def _inverse(pose: Floats) -> Floats:
    """Inverse of 4×4 poses."""
    out = np.zeros_like(pose)
    turned = np.swapaxes(pose[..., :3, :3], -1, -2)
    out[..., :3, :3] = turned
    out[..., :3, 3] = -(turned @ pose[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1
    return out


def _sd_of(distances: Floats) -> float:
    """Robust standard deviation of errors of these lengths, larger than where they are normal."""
    return 1.26 * float(np.median(distances)) if distances.size else 0.0


def _on_plane(points: Floats) -> Floats:
    """x / z and y / z of N×3 points, within what a lens can see."""
    return (points[:, :2] / np.maximum(points[:, 2:], 0.05)).clip(-5, 5)


def _turn(guess: Floats, found: Floats) -> Floats:
    """Rotation vector of a camera that takes most of N×2 points from where they were guessed.

    By iteratively reweighted least squares with Cauchy's weights.
    """
    x, y = guess.T
    rows = np.stack((np.stack((x * y, -1 - x * x, y), -1), np.stack((1 + y * y, -x * y, -x), -1)),
                    1)
    error, turn = found - guess, np.zeros(3)
    if len(guess) < 8:
        return turn
    for _ in range(4):
        left = error - rows @ turn
        square = (left * left).sum(1)
        weight = 1 / (np.median(square) + square + 1e-9)
        weighted = rows * weight[:, None, None]
        turn = turn + np.linalg.solve(np.einsum('nai,naj->ij', weighted, rows) + 1e-9 * np.eye(3),
                                      np.einsum('nai,na->i', weighted, left))
    return turn


def _angle(rotation: Floats) -> float:
    """Degrees by which a 3×3 rotation turns."""
    return float(np.rad2deg(np.linalg.norm(_logs(rotation[None])[0])))


class MotionAnchors:
    """Anchors of one camera, from frame to frame.

    Args:
        intrinsics: of the images, which have no distortion.
        settings: constants.

    Attributes:
        reason: why the last frame's poses are not believed, or should be looked at; else empty.
        note: why there are no anchors though nothing is wrong; else empty.
    """

    def __init__(self, intrinsics: Intrinsics,
                 settings: MotionSettings = MotionSettings()) -> None:
        self._s = settings
        width, height = intrinsics.width, intrinsics.height
        shrink = min(1.0, float(np.sqrt(settings.image_pixels / (width * height))))
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
        self._frames: _Window | None = None
        self._typical = self._s.first_inverse_depth
        self._pixel_sd = self._s.pixel_sd
        self.reason = self.note = ''
        self._believed = True
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
        image = gray
        if gray.shape[::-1] != self._size:
            image = cv2.resize(gray, self._size, interpolation=cv2.INTER_AREA)
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
            self._begin(image, matrix)
            anchors = Anchors.joined(())
        else:
            self._track(image, matrix)
            self._adjust(2)
            self._reject()
            self._judge()
            anchors = self._anchors()
            if self._is_keyframe():
                self._make_key(image, matrix)
        self._pose, self._stamp = matrix, stamp
        return anchors

    @property
    def _current(self) -> _Window:
        if self._frames is None:
            raise LookupError('there was no frame yet')
        return self._frames

    def _begin(self, image: Image, pose: Floats) -> None:
        self._key, self._key_pose = image, pose
        none = np.empty((1, 0))
        self._frames = _Window(np.eye(3)[None], np.zeros((1, 3)), np.empty((0, 4, 4)),
                               none.astype(bool), none, none, none[0], none[0])
        self._add_tracks(image)
        self._open_frame()

    def _open_frame(self) -> None:
        """Append the slot of the current frame, which each frame fills anew."""
        w = self._current
        for name in ('rotation', 'position', 'seen', 'x', 'y'):
            values = getattr(w, name)
            setattr(w, name, np.concatenate((values, values[-1:])))
        w.steps = np.concatenate((w.steps, np.eye(4)[None]))

    def _pixels(self, x: Floats, y: Floats) -> Floats:
        return np.stack((x, y), -1) * self._focal + self._centre

    # tracking

    def _detect(self, image: Image, taken: Floats) -> Floats:
        """Corners, one in each cell that has no track."""
        s = self._s
        strength = cv2.cornerMinEigenVal(image, 5)
        (width, height), cell = self._size, s.cell_size
        columns, rows = ((side - 2 * s.border) // cell for side in (width, height))
        left, top = (width - columns * cell) // 2, (height - rows * cell) // 2
        cells = strength[top:top + rows * cell, left:left + columns * cell].reshape(
            rows, cell, columns, cell).transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
        best = cells.argmax(1)
        value = cells[np.arange(len(cells)), best]
        number = np.arange(len(cells))
        points = np.stack((number % columns * cell + best % cell + left,
                           number // columns * cell + best // cell + top), -1).astype(np.float64)
        good = value > s.min_corner
        if len(taken):
            row, column = (taken[:, 1] - top) // cell, (taken[:, 0] - left) // cell
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            good[(row * columns + column)[inside].astype(int)] = False
            good[good] = (np.abs(points[good, None] - taken).max(-1) > cell / 2).all(1)
        room = max(0, s.max_tracks - len(taken))
        chosen = np.flatnonzero(good)
        return points[chosen[np.argsort(-value[chosen])[:room]]]

    def _match(self, image: Image, points: Floats, guess: Floats, turn: Floats
               ) -> tuple[Floats, Bools]:
        """Where points of the keyframe lie in an image: N×2, and bool N, whether they do."""
        s, key, (width, height) = self._s, self._key, self._size
        if not len(points):
            return points, np.zeros(0, bool)
        if _angle(turn) > s.warp_angle:
            warp = self._camera @ turn @ np.linalg.inv(self._camera)
            key = cv2.warpPerspective(key, warp, self._size, borderMode=cv2.BORDER_REPLICATE)
            points = cv2.perspectiveTransform(points[:, None], warp)[:, 0]
        how: dict[str, Any] = {'winSize': (s.window_size, s.window_size), 'criteria': (3, 20, 0.02),
               'flags': cv2.OPTFLOW_USE_INITIAL_FLOW}
        start = np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2)
        found, forth, _ = cv2.calcOpticalFlowPyrLK(
            key, image, start, np.ascontiguousarray(guess, np.float32).reshape(-1, 1, 2),
            maxLevel=s.pyramid_levels, **how)
        back, fro, _ = cv2.calcOpticalFlowPyrLK(
            image, key, found, start.copy(), maxLevel=1, **how)
        edge = s.border - 2
        found = found[:, 0]
        good = ((forth.ravel() > 0) & (fro.ravel() > 0)
                & (np.abs(back - start)[:, 0].max(1) < s.max_backward_error) & (found > edge).all(1)
                & (found[:, 0] < width - 1 - edge) & (found[:, 1] < height - 1 - edge))
        return found.astype(np.float64), good

    def _track(self, image: Image, pose: Floats) -> None:
        """Fill the current frame's slot: its pose by odometry, and where the tracks lie."""
        s, w = self._s, self._current
        move = _inverse(self._pose) @ pose
        last = w.rotation[-1], w.position[-1]
        w.rotation[-1] = last[0] @ move[:3, :3]
        w.position[-1] = last[1] + last[0] @ move[:3, 3]
        w.steps[-1] = _inverse(self._key_pose) @ pose
        known = w.sd < 0.5 * w.rho
        if np.count_nonzero(known) > 10:
            self._typical = float(np.median(w.rho[known]))
        rho = np.where(known, w.rho, self._typical)
        points = np.stack((w.x[-2], w.y[-2], np.ones_like(w.rho)), -1)
        moved = points - rho[:, None] * w.position[-1]
        # where a track was in the last frame, and what its prediction was off there
        before = (points - rho[:, None] * last[1]) @ last[0]
        off = np.where(w.seen[-1][:, None],
                       np.stack((w.x[-1], w.y[-1]), -1) - _on_plane(before), 0).clip(-0.1, 0.1)
        start = self._pixels(w.x[-2], w.y[-2])
        for again in (True, False):
            guess = _on_plane(moved @ w.rotation[-1]) + off
            found, good = self._match(image, start, guess * self._focal + self._centre,
                                      w.rotation[-1].T)
            place = (found - self._centre) / self._focal
            turn = _turn(guess[good], place[good])
            w.rotation[-1] = w.rotation[-1] @ cv2.Rodrigues(turn)[0]
            if not (again and np.linalg.norm(turn) > np.deg2rad(s.search_angle)):
                break
        w.x[-1], w.y[-1], w.seen[-1] = place[:, 0], place[:, 1], good & w.seen[-2]

    # adjustment

    def _project(self) -> tuple[Floats, Floats, Floats]:
        """Of all tracks in all frames: x, y, z as a share of the depth in the last keyframe."""
        w = self._current
        rays = np.stack((w.x[-2], w.y[-2], np.ones_like(w.rho)), -1)
        point = (rays - w.rho[:, None] * w.position[:, None]) @ w.rotation
        z = np.maximum(point[..., 2], 0.05)
        return point[..., 0] / z, point[..., 1] / z, z

    def _adjust(self, rounds: int) -> None:
        s, w = self._s, self._current
        frames, tracks = w.seen.shape
        fx, fy = self._focal
        ref = frames - 2
        jacobian = np.empty((frames, 6, 2, tracks))
        for _ in range(rounds):
            x, y, z = self._project()
            ex, ey = (w.x - x) * fx, (w.y - y) * fy
            size = np.hypot(ex, ey)
            valid = w.seen & (z > 0.06)
            valid[ref] = False
            sd = self._pixel_sd = max(s.pixel_sd, _sd_of(size[valid]))
            weight = valid / (sd * np.sqrt(np.maximum(1, size / (s.huber * sd))))
            wx, wy = weight * fx, weight * fy
            ex, ey = ex * weight, ey * weight
            q = w.rho / z
            # rotation and translation in the frame's own axes
            np.multiply(x * y, wx, jacobian[:, 0, 0])
            np.multiply(-1 - x * x, wx, jacobian[:, 1, 0])
            np.multiply(y, wx, jacobian[:, 2, 0])
            np.multiply(1 + y * y, wy, jacobian[:, 0, 1])
            np.multiply(-x * y, wy, jacobian[:, 1, 1])
            np.multiply(-x, wy, jacobian[:, 2, 1])
            qx, qy = q * wx, q * wy
            jacobian[:, 3, 0], jacobian[:, 3, 1] = -qx, 0
            jacobian[:, 4, 0], jacobian[:, 4, 1] = 0, -qy
            np.multiply(qx, x, jacobian[:, 5, 0])
            np.multiply(qy, y, jacobian[:, 5, 1])
            move = -(w.position[:, None] @ w.rotation)  # W,1,3
            dx = (move[..., 0] - x * move[..., 2]) / z * wx
            dy = (move[..., 1] - y * move[..., 2]) / z * wy
            h = (dx * dx + dy * dy).sum(0) + 0.1
            g = (dx * ex + dy * ey).sum(0)
            flat = jacobian.reshape(frames, 6, -1)
            error = np.concatenate((ex, ey), 1)
            normal = np.zeros((frames, 6, frames, 6))
            index = np.arange(frames)
            normal[index, :, index] = flat @ flat.transpose(0, 2, 1)
            right = (flat @ error[..., None])[..., 0]
            self._odometry(normal, right)
            mixed = (jacobian[:, :, 0] * dx[:, None] + jacobian[:, :, 1] * dy[:, None]).reshape(
                6 * frames, tracks)
            share = mixed / h
            normal = normal.reshape(6 * frames, -1) - share @ mixed.T
            right = right.ravel() - share @ g
            free = np.r_[0:6 * ref, 6 * ref + 6:6 * frames]
            covariance = np.zeros_like(normal)
            covariance[np.ix_(free, free)] = np.linalg.inv(normal[np.ix_(free, free)])
            step = covariance @ right
            w.rho = np.clip(w.rho + (g - step @ mixed) / h, -5, 20)
            step = step.reshape(frames, 6)
            w.position = w.position + (w.rotation @ step[:, 3:, None])[..., 0]
            w.rotation = w.rotation @ np.stack([cv2.Rodrigues(v)[0] for v in step[:, :3]])
        # errors of tracking are alike in all frames, so they do not average out
        most = np.sqrt((dx * dx + dy * dy).max(0)) + 1e-9
        w.sd = np.sqrt(1 / h + (share * (covariance @ share)).sum(0).clip(0)
                       + (s.common_error / most) ** 2)

    def _odometry(self, normal: Floats, right: Floats) -> None:
        """Add odometry's steps to the normal equations."""
        s, w = self._s, self._current
        turned = w.rotation[:-1].transpose(0, 2, 1)
        relative = turned @ w.rotation[1:]
        step = (turned @ (w.position[1:] - w.position[:-1])[..., None])[..., 0]
        expected = w.steps[:, :3, 3]
        error = np.concatenate((-_logs(w.steps[:, :3, :3].transpose(0, 2, 1) @ relative),
                                expected - step), 1)
        angle = np.linalg.norm(_logs(w.steps[:, :3, :3]), axis=1)
        off = np.linalg.norm(error[:, :3], axis=1)
        turn_sd = s.turn_sd * angle + np.deg2rad(s.turn_noise)
        turn_sd *= np.sqrt(np.maximum(1, off / (s.huber * turn_sd)))
        # a step that turns otherwise than the tracks is badly timed, so its length is in doubt too
        length = np.linalg.norm(expected, axis=1)
        doubt = np.minimum(off / (angle + np.deg2rad(1)), 1)
        move_sd = (s.step_sd + doubt) * length + s.step_noise
        weight = np.repeat(1 / np.stack((turn_sd, move_sd), 1), 3, axis=1)
        first, second = np.zeros((2, len(step), 6, 6))
        first[:, :3, :3] = -relative.transpose(0, 2, 1)
        first[:, 3:, :3] = _skew(step)
        first[:, 3:, 3:] = -np.eye(3)
        second[:, :3, :3] = np.eye(3)
        second[:, 3:, 3:] = relative
        first *= weight[..., None]
        second *= weight[..., None]
        error *= weight
        here = np.arange(len(step))
        for one, offset in ((first, 0), (second, 1)):
            right[here + offset] += (one.transpose(0, 2, 1) @ error[..., None])[..., 0]
            for other, beside in ((first, 0), (second, 1)):
                normal[here + offset, :, here + beside] += one.transpose(0, 2, 1) @ other

    def _reject(self) -> None:
        """Give up tracks of what does not stand still."""
        s, w = self._s, self._current
        x, y, self._z = self._project()
        size = np.hypot((w.x - x) * self._focal[0], (w.y - y) * self._focal[1])
        seen = w.seen.copy()
        seen[-2] = False
        off = seen & (size > s.outlier * max(self._pixel_sd, 0.25))
        moving = off.sum(0) > np.maximum(seen.sum(0), 1) / 3
        w.seen[-1, moving] = False
        w.seen[-2, moving] = False

    def _judge(self) -> None:
        """See whether poses and tracks agree, as far as both tell."""
        s, w = self._s, self._current
        turned = w.rotation[:-1].transpose(0, 2, 1)
        error = w.steps[:, :3, 3] - (turned @ (w.position[1:] - w.position[:-1])[..., None])[..., 0]
        length = np.linalg.norm(w.steps[:, :3, 3], axis=1)
        sd = s.step_sd * length + s.step_noise
        missed = np.linalg.norm(error, axis=1).sum() / (length + s.step_noise / 2).sum()
        off = np.rad2deg(np.linalg.norm(_logs(
            w.steps[:, :3, :3].transpose(0, 2, 1) @ turned @ w.rotation[1:]), axis=1).sum())
        turn = np.rad2deg(np.linalg.norm(_logs(w.steps[:, :3, :3]), axis=1).sum())
        share = off / (turn + 1)
        self._believed = True
        if off > 3 and share > s.warn_turn:
            self._believed = share < s.max_turn
            self.reason = (f'the image turns otherwise than the poses, by {off:.0f}° while they '
                           f'turn {turn:.0f}°: see whether they are those of the optical frame, '
                           'and whether the stamps of images and poses agree')
        elif (missed > s.max_missed or float(np.sqrt((error ** 2).sum(1) / sd ** 2 / 3).mean())
              > s.max_step_error):
            self._believed = False
            self.reason = ('the image moves otherwise than the poses: see whether they are those '
                           'of the optical frame, and whether they still come')

    def _anchors(self) -> Anchors:
        s, w = self._s, self._current
        with np.errstate(divide='ignore', invalid='ignore'):
            # the scale comes from what odometry measured, not from where the steps were adjusted to
            path = np.linalg.norm(w.steps[:, :3, 3], axis=1).sum()
            scale = np.hypot(s.scale_sd, s.step_noise * np.sqrt(len(w.steps)) / path)
            share = np.hypot(w.sd / w.rho, scale)
            depth = self._z[-1] / w.rho
        good = w.seen[-1] & (w.rho > 0) & (share < s.max_sd) & (self._z[-1] > 0.06)
        # where few depths are known, those are the ones that noise made near
        seen = np.count_nonzero(w.seen[-1])
        if not self._believed or np.count_nonzero(good) < s.min_known * seen:
            good[:] = False
        if not (good.any() or self.reason):
            self.note = ('nothing to track' if seen < s.min_tracks else
                         'too little parallax yet')
        at = (self._pixels(w.x[-1, good], w.y[-1, good]) + 0.5) / self._shrink - 0.5
        u, v, z, sigma = (values.astype(np.float32) for values in (
            at[:, 0], at[:, 1], depth[good], (share * depth)[good]))
        return Anchors(u, v, z, sigma)

    # keyframes

    def _is_keyframe(self) -> bool:
        s, w = self._s, self._current
        seen = w.seen[-1]
        good = seen & (w.rho > 0)
        near = np.median(w.rho[good]) if good.any() else self._typical
        return bool(np.linalg.norm(w.position[-1]) * near > s.keyframe_move
                    or _angle(w.rotation[-1]) > s.keyframe_turn
                    or np.count_nonzero(seen) < s.keyframe_tracks * np.count_nonzero(w.seen[-2])
                    or np.count_nonzero(seen) < 30)

    def _make_key(self, image: Image, pose: Floats) -> None:
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
        self._key, self._key_pose = image, pose
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
        for name in ('rotation', 'position', 'seen', 'x', 'y'):
            setattr(w, name, np.delete(getattr(w, name), number, 0))

    def _add_tracks(self, image: Image) -> None:
        w = self._current
        points = (self._detect(image, self._pixels(w.x[-1], w.y[-1])) - self._centre) / self._focal
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
