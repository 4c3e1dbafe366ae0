"""Where a robot's camera may stand in a room, and what its lens and sensor make of the light.

A camera's frame is the optical one of REP 103: x right, y down, z ahead.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

CLEAR = 0.14     # m around the camera that are empty
GRID = 9, 7      # rays that look whether there is something to see
DARK = 24        # grey levels that some of a picture has to exceed


@dataclass(frozen=True)
class Lenses:
    """What cameras a robot has: ranges of height (m), pitch (° up), field of view (° across).

    roll: standard deviation, °.
    """

    height: tuple = (0.15, 1.7)
    pitch: tuple = (-50.0, 15.0)
    roll: float = 2.0
    fov: tuple = (45.0, 100.0)


@dataclass(frozen=True)
class View:
    """One camera. position: m; rotation: 3×3, optical frame → world; fov: ° across."""

    position: np.ndarray
    rotation: np.ndarray
    fov: float
    height: float
    pitch: float
    roll: float

    @property
    def fx_per_width(self):
        """Focal length / image width."""
        return 0.5 / math.tan(math.radians(self.fov) / 2)


def rotation(yaw, pitch, roll):
    """3×3, optical frame → world; yaw: where the camera looks, pitch: up, roll: to the right; rad.
    """
    c, s = math.cos(yaw), math.sin(yaw)
    level = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])  # columns: right, down, ahead
    up = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))[0]
    turn = cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
    return level @ up @ turn


def rays(view, aspect, columns, rows):
    """Directions N×3 (world, z ahead = 1, not of unit length) of a grid over the picture."""
    u, v = np.meshgrid(np.linspace(-0.47, 0.47, columns), np.linspace(-0.47, 0.47, rows))
    ahead = np.column_stack((u.ravel() / view.fx_per_width,
                             v.ravel() / aspect / view.fx_per_width, np.ones(u.size)))
    return ahead @ view.rotation.T


def _around():
    turns = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    return np.vstack([np.column_stack((np.cos(turns) * math.cos(tilt), np.sin(turns) *
                                       math.cos(tilt), np.full(12, math.sin(tilt))))
                      for tilt in (-0.6, 0.0, 0.6)])


def sample_views(rng, size, count, lenses, cast, aspect=4 / 3, tries=60):
    """Cameras in the free space of a room, each with something to see.

    size: the room's, m. cast(origin, directions) → how many times each direction (N×3, not of
    unit length) fits before something is hit, inf: nothing. Heights are spread evenly on a
    logarithmic scale over all views. Returns at most `count` views.
    """
    around, views = _around(), []
    low, high = (math.log(height) for height in lenses.height)
    start = rng.random()
    for k in range(count):
        for _ in range(tries):
            share = (k + 0.5 + 0.8 * (rng.random() - 0.5)) / count
            height = math.exp(low + (high - low) * ((share + start) % 1.0))
            position = np.array([*(rng.uniform(0.2, side - 0.2) for side in size[:2]), height])
            if height > size[2] - 0.2 or cast(position, around).min() < CLEAR:
                continue
            if not np.isfinite(cast(position, np.array([[0, 0, -1.0], [0, 0, 1.0]]))).all():
                continue  # outside
            pitch = _pitch(rng, height, *lenses.pitch)  # once: level views show most
            seen = [(_interest(cast(position, rays(view, aspect, *GRID))), view) for view in
                    (_aim(rng, position, height, pitch, lenses) for _ in range(4))]
            interest, view = max(seen, key=lambda pair: pair[0])
            if interest > 0:
                views.append(view)
                break
    return views


def _interest(depth):
    """How much there is to see, from a grid of depths (m): near and far, and not a bare wall; 0:
    too little.
    """
    finite = depth[np.isfinite(depth)]
    if (finite.size < 0.9 * depth.size or np.median(finite) < 0.35
            or np.percentile(finite, 5) < 0.15):
        return 0.0
    spread = float(np.log(finite).std())
    return spread * math.sqrt(float(np.median(finite))) if spread > 0.15 else 0.0


def _pitch(rng, height, low, high):
    """Half of low cameras look level, of high ones somewhat down, as robots' and people's do; the
    others anywhere from low to high.
    """
    middle = np.interp(math.log(height), [math.log(0.3), math.log(1.5)], [0.0, -10.0])
    pitch = float(rng.normal(middle, 8.0))
    return pitch if low <= pitch <= high and rng.random() < 0.5 else float(rng.uniform(low, high))


def _aim(rng, position, height, pitch, lenses):
    """A view to any side, turned as the robot is, through one of its lenses."""
    roll = float(rng.normal(0, lenses.roll))
    # usual lenses more often than the extremes
    low, high = lenses.fov
    usual = np.clip((55.0, 75.0), low, high)
    fov = float(rng.uniform(*usual) if rng.random() < 0.5 else rng.uniform(low, high))
    yaw = rng.uniform(-math.pi, math.pi)
    return View(position, rotation(yaw, math.radians(pitch), math.radians(roll)), fov, height,
                pitch, roll)


def develop(light, rng):
    """Scene light, linear float H×W×3, any scale → a camera's picture, uint8 RGB H×W×3.

    Automatic exposure that errs, white balance, vignetting, a lens that blurs, photon and
    reading noise, a tone curve, saturation.
    """
    light = np.maximum(light.astype(np.float32), 0)
    height, width = light.shape[:2]
    grey = light @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    exposure = 0.18 / max(float(np.exp(np.log(grey + 1e-4).mean())), 1e-4)
    exposure = min(exposure, 1.6 / max(float(np.percentile(grey, 90)), 1e-4))
    light = light * np.float32(exposure * 2 ** rng.normal(0.15, 0.45))
    light *= np.exp(rng.normal(0, 0.07, 3)).astype(np.float32)
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j].astype(np.float32)
    light *= 1 - np.float32(rng.uniform(0, 0.18)) * (x * x + y * y)[..., None]
    if rng.random() < 0.6:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.3, 0.9))
    if rng.random() < 0.8:
        photons, reading = rng.uniform(300, 6000), rng.uniform(0.0005, 0.006)
        light = light + rng.standard_normal(light.shape, np.float32) * np.sqrt(
            np.maximum(light, 0) / np.float32(photons) + np.float32(reading ** 2))
    light = np.clip(light, 0, None)
    if rng.random() < 0.5:   # highlights roll off, as in a film or a phone
        shoulder = np.float32(rng.uniform(2.0, 6.0))
        light = light * (1 + light / shoulder ** 2) / (1 + light)
        light *= np.float32(1.25)
    picture = np.clip(light, 0, 1) ** np.float32(1 / rng.uniform(1.9, 2.5))
    mean = picture.mean(axis=2, keepdims=True)
    picture = mean + (picture - mean) * np.float32(rng.uniform(0.7, 1.25))
    if rng.random() < 0.3:   # sharpened by the camera
        picture += np.float32(rng.uniform(0.2, 0.7)) * (
            picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def lit(picture):
    """Whether a camera's picture, uint8, shows anything: some places no lamp reaches."""
    return bool(np.percentile(picture, 99) > DARK)
