"""Where a camera may be in a room, and what its lens and sensor make of the light.

A camera's frame is the optical one of REP 103: x right, y down, z ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from train.synthetic.parts import FurnishedRoom

Cast = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]
# what a view shows, and how often each comes where nothing else is asked for
VIEW_KINDS = {
    'room': 1.0,    # a room from a robot's or a person's height
    'near': 0.0,    # things 0.15 to 1.2 m away: on desks, tables, shelves, beds, floors
    'plain': 0.0,   # one surface fills the image: a wall, a floor, a ceiling, a door, at any tilt
    'hall': 0.0,    # halls, warehouses, gyms and corridors of 10 to 40 m
    'high': 0.0,    # from 1.8 to 3.5 m, often in a corner, 10 to 60° down
    'steep': 0.0,   # 55 to 85° down
    'rolled': 0.0,  # a room, rolled by up to 20°, half of them portrait
}
TRIES = 60       # places that are tried for a view
CLEAR = 0.14     # m around the camera that are empty
GRID = 9, 7      # rays that look whether there is something to see
DARK = 24        # grey levels that some of a image has to exceed


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
    kind: str = 'room'
    portrait: bool = False

    @property
    def fx_per_width(self) -> float:
        """Focal length / image width."""
        return 0.5 / math.tan(math.radians(self.fov) / 2)


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """3×3, optical frame → world; yaw: where the camera looks, pitch: up, roll: to the right; rad.
    """
    c, s = math.cos(yaw), math.sin(yaw)
    level = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])  # columns: right, down, ahead
    up = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))[0]
    turn = cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
    return level @ up @ turn


def rays(view: View, aspect: float, columns: int, rows: int) -> npt.NDArray[np.float64]:
    """Directions N×3 (world, z ahead = 1, not of unit length) of a grid over the image."""
    u, v = np.meshgrid(np.linspace(-0.47, 0.47, columns), np.linspace(-0.47, 0.47, rows))
    ahead = np.column_stack((u.ravel() / view.fx_per_width,
                             v.ravel() / aspect / view.fx_per_width, np.ones(u.size)))
    return ahead @ view.rotation.T


def _around() -> npt.NDArray[np.float64]:
    turns = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    return np.vstack([np.column_stack((np.cos(turns) * math.cos(tilt), np.sin(turns) *
                                       math.cos(tilt), np.full(12, math.sin(tilt))))
                      for tilt in (-0.6, 0.0, 0.6)])


def sample_views(rng: np.random.Generator, size: Sequence[float], count: int, lenses: Lenses,
                 cast: Cast, aspect: float = 4 / 3, tries: int = 60) -> list[View]:
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


def any_views(rng: np.random.Generator, room: FurnishedRoom, kinds: list[str], lenses: Lenses,
              cast: Cast, aspect: float = 4 / 3) -> list[View]:
    """Cameras of several kinds in a room.

    Args:
        kinds: of ``VIEW_KINDS``, one for each view.
        lenses: heights and pitches of the kinds room and rolled; fields of view of all.
        cast: as for :func:`sample_views`.
        aspect: width / height of an image that is not portrait.

    Returns:
        A view for each of the kinds for which a place was found.
    """
    views = sample_views(rng, room.size, kinds.count('room'), lenses, cast, aspect)
    level = replace(lenses, roll=0.0)
    for view in sample_views(rng, room.size, kinds.count('rolled'), level, cast, aspect):
        roll, portrait = float(rng.uniform(-20, 20)), bool(rng.random() < 0.5)
        yaw = math.atan2(view.rotation[1, 2], view.rotation[0, 2])
        views.append(replace(
            view, rotation=rotation(yaw, math.radians(view.pitch), math.radians(roll)), roll=roll,
            kind='rolled', portrait=portrait, fov=_across(view.fov, aspect, portrait)))
    for kind in kinds:
        if kind in _AIMS:
            for _ in range(TRIES):
                found = _AIMS[kind](rng, room, lenses, cast, aspect)
                if found:
                    views.append(found)
                    break
    return views


def _across(fov: float, aspect: float, portrait: bool) -> float:
    """The horizontal field of view, °, of a lens whose longer side has `fov`."""
    half = math.tan(math.radians(fov) / 2) / (aspect if portrait else 1.0)
    return math.degrees(2 * math.atan(half))


def _lens(rng: np.random.Generator, lenses: Lenses, least: float, most: float) -> float:
    """A field of view between two, ° across, as far as the robot has such lenses."""
    low, high = np.clip((least, most), *lenses.fov)
    return float(rng.uniform(low, high))


def _look(rng: np.random.Generator, kind: str, position: npt.NDArray[np.float64], yaw: float,
          pitch: float, roll: float, fov: float, aspect: float, portrait_share: float) -> View:
    """A view; angles in °, yaw in rad; a share of them portrait."""
    portrait = bool(rng.random() < portrait_share)
    return View(position, rotation(yaw, math.radians(pitch), math.radians(roll)),
                _across(fov, aspect, portrait), float(position[2]), pitch, roll, kind, portrait)


def _grid(view: View, aspect: float, cast: Cast, columns: int = GRID[0],
          rows: int = GRID[1]) -> npt.NDArray[np.float64]:
    """Depths that a view sees in a grid, m."""
    return cast(view.position, rays(view, 1 / aspect if view.portrait else aspect, columns, rows))


def _inside(position: npt.NDArray[np.float64], room: FurnishedRoom, margin: float) -> bool:
    return bool((position > margin).all() and (position < np.array(room.size) - margin).all())


def _near_view(rng: np.random.Generator, room: FurnishedRoom, lenses: Lenses, cast: Cast,
               aspect: float) -> View | None:
    """Close to a small thing, or to whatever stands where a ray of chance hits."""
    if room.targets and rng.random() < 0.75:
        target = np.array(room.targets[int(rng.integers(len(room.targets)))])
    else:
        start = rng.uniform((0.3, 0.3, 0.3), np.maximum(0.31, np.array(room.size) - 0.3))
        ray = rng.normal(0, 1, 3) * (1, 1, 0.6)
        ray /= np.linalg.norm(ray)
        reach = float(cast(start, ray[None])[0])
        if not math.isfinite(reach):
            return None
        target = start + reach * ray
    distance = math.exp(rng.uniform(math.log(0.17), math.log(1.2)))
    yaw, down = rng.uniform(-math.pi, math.pi), math.radians(rng.triangular(-10, 30, 85))
    ahead = np.array([math.cos(yaw) * math.cos(down), math.sin(yaw) * math.cos(down),
                      -math.sin(down)])
    position = target - distance * ahead
    clear = min(0.1, 0.5 * distance)
    if (not _inside(position, room, 0.05) or cast(position, _around()).min() < clear
            or float(cast(position, ahead[None])[0]) < 0.55 * distance):
        return None
    fov = _lens(rng, lenses, 45, 85)
    aside = math.radians(fov) / 7
    view = _look(rng, 'near', position, yaw + rng.normal(0, aside),
                 float(-math.degrees(down + rng.normal(0, aside))), float(rng.normal(0, 5)), fov,
                 aspect, 0.2)
    depth = _grid(view, aspect, cast)
    seen = depth[np.isfinite(depth)]
    fits = (seen.size > 0.9 * depth.size and 0.12 < np.median(seen) < 1.3
            and np.percentile(seen, 3) > 0.07)
    return view if fits else None


def _plain_view(rng: np.random.Generator, room: FurnishedRoom, lenses: Lenses, cast: Cast,
                aspect: float) -> View | None:
    """A view that one flat surface fills, or nearly."""
    start = rng.uniform((0.2, 0.2, 0.2), np.array(room.size) - 0.2)
    tilt = rng.choice([-1.2, 0.0, 1.2, -0.5], p=[0.35, 0.35, 0.15, 0.15]) + rng.normal(0, 0.2)
    yaw, tilt = rng.uniform(-math.pi, math.pi), float(np.clip(tilt, -1.55, 1.55))
    ahead = np.array([math.cos(yaw) * math.cos(tilt), math.sin(yaw) * math.cos(tilt),
                      math.sin(tilt)])
    reach = float(cast(start, ahead[None])[0])
    if not 0.15 < reach < 50:
        return None
    distance = min(math.exp(rng.uniform(math.log(0.13), math.log(2.5))), 0.95 * reach)
    position = start + (reach - distance) * ahead
    if not _inside(position, room, 0.03) or cast(position, _around()).min() < 0.06:
        return None
    view = _look(rng, 'plain', position, yaw + rng.normal(0, 0.3),
                 math.degrees(tilt) + float(rng.normal(0, 15)), float(rng.normal(0, 8)),
                 _lens(rng, lenses, 45, 85), aspect, 0.2)
    depth = _grid(view, aspect, cast)
    fits = abs(view.pitch) < 90 and np.median(depth) > 0.1 and _planar(depth) > 0.82
    return view if fits else None


def _planar(depth: npt.NDArray[np.float64], off: float = 0.04) -> float:
    """Which share of a grid of depths lies on its main plane: there 1 / depth is linear."""
    near = 1 / depth
    columns, rows = GRID
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    terms = np.column_stack((u.ravel(), v.ravel(), np.ones(u.size)))
    on = np.isfinite(near) & (near > 0)
    for _ in range(4):
        if on.sum() < 0.5 * near.size:
            return 0.0
        plane = np.linalg.lstsq(terms[on], near[on], rcond=None)[0]
        residual = np.abs(terms @ plane - near)
        on = residual < off * np.maximum(near, 1e-3)
    return float(on.mean())


def _hall_view(rng: np.random.Generator, room: FurnishedRoom, lenses: Lenses, cast: Cast,
               aspect: float) -> View | None:
    """A hall, the farthest of some directions."""
    top = min(2.6, room.size[2] - 0.3) if rng.random() < 0.85 else room.size[2] - 0.3
    height = math.exp(rng.uniform(math.log(0.2), math.log(top)))
    pitch = float(np.clip(rng.normal(-3 - 5 * max(0.0, height - 1.5), 8), -40, 15))
    return _farthest(rng, 'hall', height, pitch, room, lenses, cast, aspect, 2.2)


def _high_view(rng: np.random.Generator, room: FurnishedRoom, lenses: Lenses, cast: Cast,
               aspect: float) -> View | None:
    """From above: below the ceiling, in a corner or at a wall, or from anywhere."""
    if room.size[2] < 2.2:
        return None
    height = float(rng.uniform(1.8, min(3.5, room.size[2] - 0.15)))
    return _farthest(rng, 'high', height, float(rng.uniform(-60, -10)), room, lenses, cast, aspect,
                     0.8, corner=bool(rng.random() < 0.6))


def _steep_view(rng: np.random.Generator, room: FurnishedRoom, lenses: Lenses, cast: Cast,
                aspect: float) -> View | None:
    """Nearly straight down."""
    top = math.log(min(2.3, room.size[2] - 0.2))
    height = math.exp(rng.uniform(math.log(0.35), top))
    return _farthest(rng, 'steep', height, float(rng.uniform(-85, -55)), room, lenses, cast,
                     aspect, 0.15)


def _farthest(rng: np.random.Generator, kind: str, height: float, pitch: float, room: FurnishedRoom,
              lenses: Lenses, cast: Cast, aspect: float, least: float,
              corner: bool = False) -> View | None:
    """A free place at a height, and of some directions the one that shows most; None: too little.

    least: m, of the median depth. corner: in a corner or at a wall.
    """
    where = rng.uniform((0.25, 0.25), np.maximum(0.26, np.array(room.size[:2]) - 0.25))
    if corner:
        wall, off = int(rng.integers(2)), rng.uniform(0.18, 0.6)
        where[wall] = rng.choice([off, room.size[wall] - off])
    position = np.array([*where, height])
    if cast(position, _around()).min() < CLEAR or not np.isfinite(
            cast(position, np.array([[0, 0, -1.0], [0, 0, 1.0]]))).all():
        return None
    best, found = 0.0, None
    for _ in range(4):
        view = _look(rng, kind, position, rng.uniform(-math.pi, math.pi), pitch,
                     float(rng.normal(0, max(lenses.roll, 2.0))), _lens(rng, lenses, 45, 100),
                     aspect, 0.1)
        depth = _grid(view, aspect, cast)
        seen = depth[np.isfinite(depth)]
        if seen.size < 0.85 * depth.size or np.percentile(seen, 5) < 0.12:
            continue
        middle = float(np.median(seen))
        interest = middle * (0.1 + float(np.log(seen).std()))
        if middle >= least and interest > best:
            best, found = interest, view
    return found


_AIMS = {'near': _near_view, 'plain': _plain_view, 'hall': _hall_view, 'high': _high_view,
         'steep': _steep_view}


def _interest(depth: npt.NDArray[np.float64]) -> float:
    """How much there is to see, from a grid of depths (m): near and far, and not a bare wall; 0:
    too little.
    """
    finite = depth[np.isfinite(depth)]
    if (finite.size < 0.9 * depth.size or np.median(finite) < 0.35
            or np.percentile(finite, 5) < 0.15):
        return 0.0
    spread = float(np.log(finite).std())
    return spread * math.sqrt(float(np.median(finite))) if spread > 0.15 else 0.0


def _pitch(rng: np.random.Generator, height: float, low: float, high: float) -> float:
    """Half of low cameras look level, of high ones somewhat down, as robots' and people's do; the
    others anywhere from low to high.
    """
    middle = np.interp(math.log(height), [math.log(0.3), math.log(1.5)], [0.0, -10.0])
    pitch = float(rng.normal(middle, 8.0))
    return pitch if low <= pitch <= high and rng.random() < 0.5 else float(rng.uniform(low, high))


def _aim(rng: np.random.Generator, position: npt.NDArray[np.float64], height: float, pitch: float,
         lenses: Lenses) -> View:
    """A view to any side, turned as the robot is, through one of its lenses."""
    roll = float(rng.normal(0, lenses.roll))
    # usual lenses more often than the extremes
    low, high = lenses.fov
    usual = np.clip((55.0, 75.0), low, high)
    fov = float(rng.uniform(*usual) if rng.random() < 0.5 else rng.uniform(low, high))
    yaw = rng.uniform(-math.pi, math.pi)
    return View(position, rotation(yaw, math.radians(pitch), math.radians(roll)), fov, height,
                pitch, roll)


def develop(light: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Scene light, linear float H×W×3, any scale → a camera's image, uint8 RGB H×W×3.

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
        light = (light * (1 + light / shoulder ** 2) / (1 + light)).astype(np.float32)
        light *= np.float32(1.25)
    image = np.clip(light, 0, 1) ** np.float32(1 / rng.uniform(1.9, 2.5))
    mean = image.mean(axis=2, keepdims=True)
    image = mean + (image - mean) * np.float32(rng.uniform(0.7, 1.25))
    if rng.random() < 0.3:   # sharpened by the camera
        image += np.float32(rng.uniform(0.2, 0.7)) * (
            image - cv2.GaussianBlur(image, (0, 0), 1.0))
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def lit(image: npt.NDArray[np.uint8]) -> bool:
    """Whether a camera's image, uint8, shows anything: some places no lamp reaches."""
    return bool(np.percentile(image, 99) > DARK)
