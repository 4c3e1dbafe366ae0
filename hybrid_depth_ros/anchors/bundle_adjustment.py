"""Poses of some frames and the inverse depths of image points, adjusted together.

By robust least squares (bundle adjustment: Triggs et al. 2000; keyframes and inverse depth as in
VINS-Mono, Qin et al. 2018). Odometry's steps from frame to frame are measurements in it: their
lengths give the scale, their angles are corrected by the tracks.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_Z = 0.05          # share of the depth in the last keyframe, nearer than which nothing is seen
RESCALED = 0.1        # log of a scale from which on poses are scaled before they are adjusted
OF_FRAMES = 'rotation', 'position', 'seen', 'x', 'y'  # the fields with a row for each frame


@dataclass(frozen=True)
class AdjustmentSettings:
    """Of the measurements' errors; pixels are those of the image as it is tracked.

    Attributes:
        step_sd: standard deviation of odometry's steps, share of their length.
        step_noise: what comes on top, metres.
        turn_sd: standard deviation of odometry's turns, share of their angle.
        turn_noise: what comes on top, degrees.
        pixel_sd: least standard deviation of tracking, pixels.
        common_error: error of tracking that frames have in common, standard deviations.
        huber: residual from which an observation loses weight, standard deviations.
        max_common_sd: standard deviation of what all depths have in common, share, from which on
            they have no scale.
    """

    step_sd: float = 0.05
    step_noise: float = 0.002
    turn_sd: float = 0.01
    turn_noise: float = 0.03
    pixel_sd: float = 0.1
    common_error: float = 1.0
    huber: float = 1.5
    max_common_sd: float = 0.12


@dataclass
class Window:
    """Frames and tracks that are adjusted together, in the last keyframe's optical frame.

    The last frame is the current one, the one before it the last keyframe, whose pose is the
    identity.

    rotation, position: W×3×3, W×3 of the frames. steps: (W − 1)×4×4, odometry from each frame to
    the next. seen: bool W×N, where a track was found. x, y: W×N, x / z and y / z there. rho: N,
    inverse depth in the last keyframe, 1/m; sd: its standard deviation. common_sd: standard
    deviation of what all depths have in common by the poses' errors, share. pixel_sd: standard
    deviation of tracking, pixels. extrapolation_sd: W − 1, standard deviation of steps as far as
    they lie beyond odometry's last pose, metres and radians.
    """

    rotation: Floats
    position: Floats
    steps: Floats
    seen: Bools
    x: Floats
    y: Floats
    rho: Floats
    sd: Floats
    common_sd: float = np.inf
    pixel_sd: float = 0.0
    extrapolation_sd: Floats = field(default_factory=lambda: np.zeros(0))

    def last(self) -> 'Window':
        """The last keyframe and the current frame, which share their arrays with this window."""
        return replace(self, steps=self.steps[-1:], rho=self.rho.copy(), sd=self.sd.copy(),
                       extrapolation_sd=self.extrapolation_sd[-1:],
                       **{name: getattr(self, name)[-2:] for name in OF_FRAMES})

    def adjusted_steps(self) -> tuple[Floats, Floats]:
        """From each frame to the next, in its axes: rotation W − 1×3×3, move W − 1×3."""
        turned = self.rotation[:-1].transpose(0, 2, 1)
        moved = (turned @ (self.position[1:] - self.position[:-1])[..., None])[..., 0]
        return turned @ self.rotation[1:], moved

    def project(self) -> tuple[Floats, Floats, Floats]:
        """Of all tracks in all frames: x, y, z as a share of the depth in the last keyframe."""
        rays = np.stack((self.x[-2], self.y[-2], np.ones_like(self.rho)), -1)
        point = (rays - self.rho[:, None] * self.position[:, None]) @ self.rotation
        z = np.maximum(point[..., 2], MIN_Z)
        return point[..., 0] / z, point[..., 1] / z, z


def rotation_vectors(rotations: Floats) -> Floats:
    """M×3 of rotations (M×3×3) below 180°."""
    cosine = (rotations[:, 0, 0] + rotations[:, 1, 1] + rotations[:, 2, 2] - 1) / 2
    sine = np.stack((rotations[:, 2, 1] - rotations[:, 1, 2],
                     rotations[:, 0, 2] - rotations[:, 2, 0],
                     rotations[:, 1, 0] - rotations[:, 0, 1]), -1) / 2
    length = np.sqrt((sine * sine).sum(1))
    angle = np.arctan2(length, cosine)
    return sine * np.where(length > 1e-9, angle / np.maximum(length, 1e-9), 1)[:, None]


def rotations_of(vectors: Floats) -> Floats:
    """M×3×3 of rotation vectors M×3 (Rodrigues' formula)."""
    angle = np.sqrt((vectors * vectors).sum(1)).reshape(-1, 1, 1)
    skew = skew_matrices(vectors)
    return (np.eye(3) + np.sinc(angle / np.pi) * skew
            + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (skew @ skew))


def skew_matrices(vectors: Floats) -> Floats:
    """M×3×3 of the cross products with M×3 vectors."""
    out = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -z, y, -x
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = z, -y, x
    return out


def _sd_of(distances: Floats) -> float:
    """Robust standard deviation of errors of these lengths, larger than where they are normal."""
    return 1.26 * float(np.median(distances)) if distances.size else 0.0


def adjust(window: Window, focal: Floats, settings: AdjustmentSettings, rounds: int,
           believed: tuple[Floats, Floats] | None = None, pixel_sd: float = 0.0) -> None:
    """Adjust all poses but the last keyframe's, and all inverse depths; find what sd they have.

    Args:
        window: adjusted in place.
        focal: 2, of x and y, pixels.
        settings: of the errors.
        rounds: of Gauss and Newton.
        believed: N inverse depths and their standard deviations, known before, or None.
        pixel_sd: least standard deviation of tracking here, pixels.
    """
    s, w = settings, window
    frames, tracks = w.seen.shape
    fx, fy = focal
    ref = frames - 2
    known = np.zeros(tracks) if believed is None else 1 / believed[1] ** 2
    if believed is None:
        _rescale(w, s)
    jacobian = np.zeros((frames, 6, 2, tracks))
    for _ in range(rounds):
        x, y, z = w.project()
        ex, ey = (w.x - x) * fx, (w.y - y) * fy
        size = np.sqrt(ex * ex + ey * ey)
        valid = w.seen & (z > 1.2 * MIN_Z)
        valid[ref] = False
        sd = w.pixel_sd = max(s.pixel_sd, pixel_sd, _sd_of(size[valid]))
        weight = valid / (sd * np.sqrt(np.maximum(1, size / (s.huber * sd))))
        wx, wy = weight * fx, weight * fy
        ex *= weight
        ey *= weight
        # rotation and translation in the frame's own axes
        np.multiply(x * y, wx, jacobian[:, 0, 0])
        np.multiply(-1 - x * x, wx, jacobian[:, 1, 0])
        np.multiply(y, wx, jacobian[:, 2, 0])
        np.multiply(1 + y * y, wy, jacobian[:, 0, 1])
        np.multiply(-x * y, wy, jacobian[:, 1, 1])
        np.multiply(-x, wy, jacobian[:, 2, 1])
        q = w.rho / z
        qx, qy = q * wx, q * wy
        np.negative(qx, jacobian[:, 3, 0])
        np.negative(qy, jacobian[:, 4, 1])
        np.multiply(qx, x, jacobian[:, 5, 0])
        np.multiply(qy, y, jacobian[:, 5, 1])
        move = -(w.position[:, None] @ w.rotation)  # W,1,3
        dx = (move[..., 0] - x * move[..., 2]) / z * wx
        dy = (move[..., 1] - y * move[..., 2]) / z * wy
        square = dx * dx + dy * dy
        information = square.sum(0)  # of the inverse depths
        h = information + known + 0.1
        g = (dx * ex + dy * ey).sum(0)
        if believed is not None:
            g += np.where(known > 0, known * (believed[0] - w.rho), 0)
        flat = jacobian.reshape(frames, 6, -1)
        normal = np.zeros((frames, 6, frames, 6))
        index = np.arange(frames)
        normal[index, :, index] = flat @ flat.transpose(0, 2, 1)
        right = (flat @ np.concatenate((ex, ey), 1)[..., None])[..., 0]
        _add_odometry(w, s, normal, right)
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
        w.position += (w.rotation @ step[:, 3:, None])[..., 0]
        w.rotation[:] = w.rotation @ rotations_of(step[:, :3])
    # errors of tracking are alike in all frames, so they do not average out
    most = np.sqrt(square.max(0)) + 1e-9
    w.sd = np.sqrt(1 / h + (share * (covariance @ share)).sum(0).clip(0)
                   + (s.common_error / most) ** 2 * information / h)
    good = (w.rho > 0) & (w.sd < 0.5 * w.rho)
    if believed is None and good.any():
        mean = (share[:, good] / w.rho[good]).mean(1)
        w.common_sd = float(np.sqrt(max(mean @ covariance @ mean, 0)))


def _rescale(w: Window, s: AdjustmentSettings) -> None:
    """Give poses and depths the scale of most of odometry's steps, where they have another one.

    Adjusting alone leaves a wrong scale only slowly: each round is linear about it. Odometry that
    stands has no scale, only noise.
    """
    path = np.linalg.norm(w.steps[:, :3, 3], axis=1).sum()
    if s.step_noise * np.sqrt(len(w.steps)) >= s.max_common_sd * path:
        return
    _, step = w.adjusted_steps()
    square = (step * step).sum(1)
    known = square > 1e-8
    if not known.any():
        return
    ratio = (step * w.steps[:, :3, 3]).sum(1)[known] / square[known]
    order = np.argsort(ratio)
    weight = np.cumsum(np.sqrt(square[known][order]))
    scale = float(ratio[order][np.searchsorted(weight, weight[-1] / 2)])
    if scale > 0 and abs(np.log(scale)) > RESCALED:
        w.position *= scale
        w.rho = w.rho / scale


def _add_odometry(w: Window, s: AdjustmentSettings, normal: Floats, right: Floats) -> None:
    """Add odometry's steps to the normal equations."""
    relative, step = w.adjusted_steps()
    expected = w.steps[:, :3, 3]
    vectors = rotation_vectors(np.concatenate((
        w.steps[:, :3, :3], w.steps[:, :3, :3].transpose(0, 2, 1) @ relative)))
    error = np.concatenate((-vectors[len(step):], expected - step), 1)
    angle = np.linalg.norm(vectors[:len(step)], axis=1)
    off = np.linalg.norm(error[:, :3], axis=1)
    turn_sd = s.turn_sd * angle + np.deg2rad(s.turn_noise) + w.extrapolation_sd
    turn_sd *= np.sqrt(np.maximum(1, off / (s.huber * turn_sd)))
    # a step that turns otherwise than the tracks is badly timed, so its length is in doubt too
    length = np.linalg.norm(expected, axis=1)
    doubt = np.minimum(off / (angle + np.deg2rad(1)), 1)
    move_sd = (s.step_sd + doubt) * length + s.step_noise + w.extrapolation_sd
    weight = np.repeat(1 / np.stack((turn_sd, move_sd), 1), 3, axis=1)
    rows = np.zeros((len(step), 6, 12))  # error by the first frame's, then the second's own axes
    rows[:, :3, :3] = -relative.transpose(0, 2, 1)
    rows[:, 3:, :3] = skew_matrices(step)
    rows[:, 3:, 3:6] = -np.eye(3)
    rows[:, :3, 6:9] = np.eye(3)
    rows[:, 3:, 9:] = relative
    rows *= weight[..., None]
    error *= weight
    products = rows.transpose(0, 2, 1) @ np.concatenate((rows, error[..., None]), 2)
    here = np.arange(len(step))
    for one in (0, 1):
        right[here + one] += products[:, 6 * one:6 * one + 6, 12]
        for other in (0, 1):
            normal[here + one, :, here + other] += products[
                :, 6 * one:6 * one + 6, 6 * other:6 * other + 6]
