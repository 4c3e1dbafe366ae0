"""What depth cameras measure: true depth with their noise and their holes.

Stereo loses what is too near, too far, black, shiny or plain, what stands behind glass, and what
only one of its two eyes sees. Time of flight loses what returns little light, and mixes two depths
at outlines. Holes come in patches, since all of this does.

Source: L. Keselman et al., *Intel RealSense Stereoscopic Depth Cameras*, CVPR Workshops 2017, and
M. Hansard et al., *Time-of-Flight Cameras*, 2012, for what is lost and why; the figures are rough.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Depth = npt.NDArray[np.float32]

DARK, SHINY, PLAIN = 45, 240, 2.5  # of 255: black below, shiny above; the spread of plain pixels
PATCH = 12  # patches of lost pixels along an image's side
PANES = 2  # of glass in an image, at most
HIDDEN = 0.3  # of the measured pixels, by hidden_pixels


class DepthCamera(NamedTuple):
    """A kind of depth camera.

    Attributes:
        baseline: Metres between its two eyes; 0: it has one.
        nearest: Metres.
        farthest: Metres; from half of that on more and more is lost.
        dark: How readily it loses what is black, 0 to 1.
        shiny: Likewise.
        plain: Likewise, what has no texture.
        noise: Pixels of disparity; without a baseline a share of the distance.
    """

    baseline: float
    nearest: float
    farthest: float
    dark: float
    shiny: float
    plain: float
    noise: float


DEPTH_CAMERAS = {
    'realsense': DepthCamera(0.05, 0.3, 6.0, dark=0.6, shiny=1.0, plain=0.2, noise=0.08),
    'oak': DepthCamera(0.075, 0.4, 8.0, dark=0.4, shiny=0.7, plain=1.0, noise=0.12),
    'tof': DepthCamera(0.0, 0.15, 4.5, dark=1.0, shiny=0.9, plain=0.0, noise=0.003)}


def lost_pixels(camera: DepthCamera, rgb: npt.NDArray[np.uint8], depth: Depth, fx: float,
                rng: np.random.Generator, share: float | None = None) -> Mask:
    """Where a depth camera measures nothing.

    Args:
        camera: Its kind.
        rgb: uint8 H×W×3.
        depth: H×W metres; what is not above 0 is lost.
        fx: Focal length, pixels.
        rng: Decides where patches and panes of glass are.
        share: Of all pixels that is lost, as nearly as that can be; None: as it comes.

    Returns:
        bool H×W.
    """
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean, square = cv2.blur(gray, (9, 9)), cv2.blur(gray * gray, (9, 9))
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    with np.errstate(invalid='ignore'):
        known = depth > 0
        gone = (~known | (depth < camera.nearest) | (depth > camera.farthest)
                | _shadow(depth, camera.baseline * fx))
        likely = np.clip(2 * depth / camera.farthest - 1, 0, 1)
    likely += camera.dark * np.clip(2 - mean / DARK, 0, 1)
    likely += camera.shiny * np.clip((mean - SHINY) / (255 - SHINY), 0, 1)
    likely += camera.plain * np.clip(2 - spread / PLAIN, 0, 1) * 0.6
    likely += _patches(depth.shape, rng) * 0.35
    for _ in range(rng.integers(0, PANES + 1)):
        likely[_pane(depth.shape, rng)] += 0.8
    if share is None:
        return gone | (likely > 1)
    wanted = round(share * depth.size) - int(np.count_nonzero(gone))
    if wanted > 0:
        rest = np.flatnonzero(~gone)
        order = np.argpartition(-likely.ravel()[rest], min(wanted, rest.size - 1))
        gone.ravel()[rest[order[:wanted]]] = True
    return gone


def lost_blocks(shape: tuple[int, ...], rng: np.random.Generator, share: float) -> Mask:
    """Blocks that cover this share of an image, bool H×W: holes that nothing seen explains."""
    gone = np.zeros(shape, bool)
    height, width = shape
    while gone.mean() < share:
        high, wide = (int(side * rng.uniform(0.08, 0.3)) + 1 for side in shape)
        top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
        gone[top:top + high, left:left + wide] = True
    return gone


def hidden_pixels(rgb: npt.NDArray[np.uint8], depth: Depth, fx: float, number: int) -> Mask:
    """Which measured pixels of a depth image to hide, so that what fills its holes can be scored.

    They are HIDDEN of what is measured: in one image blocks, in the next ones what each kind of
    depth camera loses.

    Args:
        rgb: uint8 H×W×3.
        depth: H×W metres, NaN where nothing was measured.
        fx: Focal length, pixels.
        number: Of the image; it decides all.

    Returns:
        bool H×W.
    """
    known, rng = np.isfinite(depth), np.random.default_rng([11, number])
    kinds = [None, *DEPTH_CAMERAS.values()]
    camera = kinds[number % len(kinds)]
    if camera is None:
        return lost_blocks(depth.shape, rng, HIDDEN) & known
    share = 1 - (1 - HIDDEN) * float(known.mean())
    return lost_pixels(camera, rgb, depth, fx, rng, share) & known


def measured_depth(camera: DepthCamera, rgb: npt.NDArray[np.uint8], depth: Depth, fx: float,
                   rng: np.random.Generator, share: float | None = None) -> Depth:
    """What a depth camera measures, registered to the image: float32 H×W metres, NaN in holes.

    Arguments as of :func:`lost_pixels`.
    """
    noise = rng.standard_normal(depth.shape, np.float32) * np.float32(camera.noise)
    if camera.baseline:
        seen = depth + depth * depth * noise / np.float32(camera.baseline * fx)
    else:
        seen = cv2.blur(depth, (3, 3)) * (1 + noise)  # pixels at outlines see two things
    gone = lost_pixels(camera, rgb, depth, fx, rng, share)
    return np.where(gone, np.float32(np.nan), seen).astype(np.float32)


def _shadow(depth: Depth, scale: float) -> Mask:
    """What the second eye, to the right of the first, does not see; scale: disparity × depth."""
    if not scale:
        return np.zeros(depth.shape, bool)
    with np.errstate(divide='ignore', invalid='ignore'):
        place = np.arange(depth.shape[1]) - np.nan_to_num(scale / depth, posinf=0, neginf=0)
    hidden_by = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return (place > hidden_by + 0.5) | (place < 0)


def _patches(shape: tuple[int, ...], rng: np.random.Generator) -> Depth:
    """Smooth noise, float32 H×W of mean 0 and standard deviation 1, in two sizes of patches."""
    total = np.zeros(shape, np.float32)
    for cells in (PATCH, 4 * PATCH):
        coarse = rng.standard_normal((cells * shape[0] // max(shape) + 1,
                                      cells * shape[1] // max(shape) + 1), np.float32)
        total += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return total / max(float(total.std()), 1e-6)


def _pane(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """An upright rectangle."""
    high, wide = (int(side * rng.uniform(0.15, 0.4)) + 1 for side in shape)
    top, left = (int(rng.integers(0, side - size + 1)) for side, size in zip(shape, (high, wide)))
    return slice(top, top + high), slice(left, left + wide)
