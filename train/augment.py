"""One training sample of an RGB-D pair, at random: the paper's augmentation and lite's."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.models.hybrid import (
    CROP_HEIGHT,
    CROP_WIDTH,
    NETWORK_WIDTH,
    NYU_FX_PER_WIDTH,
)
from train.configuration import AugmentationConfig

MAX_DEPTH = 100.0  # m; a depth beyond it is not valid: no room is so large
BLUR_SIGMA = 0.4, 1.2      # pixels, of a Gaussian
NOISE_SIGMA = 0.005, 0.04  # of the full scale
ERASED_SIDE = 0.1, 0.4     # of the image's side
PASTED_SIDE = 0.2, 0.5     # of the image's side
CUTOUT_WIDTH = 150         # pixels of the image across a cut-out, at least
CUTOUT_ROLL = 3.0          # times the rotation of other samples
COARSEST = 3.0             # pixels of the sample in a pixel of lower resolution
MAX_SPREAD_FACTOR = 2.0    # of a colour channel; more would blow up noise
LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G and B (ITU-R BT.601)

Colour = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]


class Sample(NamedTuple):
    """One training sample.

    Attributes:
        rgb: uint8 256×320×3.
        gain: float32 3, a factor of each channel that is still to be applied
            (:func:`train.data.to_input`), so that a colour factor alone rounds nothing.
        depth: float32 128×160, metres, 0 where it is not valid.
    """

    rgb: Colour
    gain: npt.NDArray[np.float32]
    depth: Depth


def augment(rgb: Colour, depth: Depth, rng: np.random.Generator,
            config: AugmentationConfig = AugmentationConfig(), *,  # noqa: B008  it is frozen
            focal: float = NYU_FX_PER_WIDTH) -> Sample:
    """One training sample by the paper's recipe (section 4), and what lite adds to it.

    The image is resized to 352×264, zoomed, rotated, cropped to 320×256 at random and mirrored.
    Depth is sampled by nearest neighbour, so that no depth is invented between two surfaces.

    Args:
        rgb: uint8 H×W×3.
        depth: float32 H×W, metres, 0 where unknown.
        rng: Decides everything.
        config: How much of each change.
        focal: The camera's focal length per image width; a tilt needs it.
    """
    if border := config.border:
        inner = slice(border, -border)
        rgb = cv2.copyMakeBorder(rgb[inner, inner], border, border, border, border,
                                 cv2.BORDER_REPLICATE)
    if border := round(config.border * depth.shape[1] / rgb.shape[1]):
        inner = slice(border, -border)
        depth = cv2.copyMakeBorder(depth[inner, inner], border, border, border, border,
                                   cv2.BORDER_CONSTANT, value=0)
    rgb, depth = _change_view(rgb, depth, rng, focal, config)
    gain = rng.uniform(*config.colour, size=3).astype(np.float32)
    return Sample(*_change_light(rgb, gain, rng, config), depth)


def _change_view(rgb: Colour, depth: Depth, rng: np.random.Generator, focal: float,
                 config: AugmentationConfig) -> tuple[Colour, Depth]:
    """Zoom, rotation, tilt, crop and mirror, in one warp each for colour and depth."""
    height, width = depth.shape
    s, roll = rng.uniform(*config.scale), config.rotation
    cutout = config.cutout > 0 and rng.random() < config.cutout
    if cutout:
        lowest = config.scale[1]
        s = np.exp(rng.uniform(*np.log((lowest, max(lowest, width / CUTOUT_WIDTH)))))
        roll *= CUTOUT_ROLL
    zoom = s * NETWORK_WIDTH / width  # source pixels → network pixels
    angle = np.deg2rad(rng.uniform(-roll, roll))
    mirror = -1.0 if rng.random() < config.flip else 1.0
    # Random crop: where the window's centre may lie when it is to stay inside the image.
    slack_x = max(0.0, (width * zoom - CROP_WIDTH) / 2)
    slack_y = max(0.0, (height * zoom - CROP_HEIGHT) / 2)
    centre = np.array([rng.uniform(-slack_x, slack_x), rng.uniform(-slack_y, slack_y)])

    # Shrink with antialiasing first, then one warp for rotation, crop and mirror.
    shrunk = zoom / s if config.nearest else zoom
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrunk < 1 else cv2.INTER_LINEAR)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([mirror, 1.0])
    tilted = None  # rotation of the tilted camera, 3×3
    if config.tilt or cutout:
        tilts = np.deg2rad(rng.uniform(-config.tilt, config.tilt, size=2))
        if cutout:  # the camera looks at what is cut out
            tilts += np.arctan(centre[::-1] * (-1, 1) / (focal * NETWORK_WIDTH * s))
            centre = np.zeros(2)
        up, side = (cv2.Rodrigues(axis * radians)[0] for axis, radians in zip(np.eye(3), tilts))
        tilted = up @ side

    def window(image: np.ndarray, pixels_per_network_pixel: float, out_w: int, out_h: int,
               interpolation: int, border: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample out_h × out_w around the window's centre; exact for both resolutions.

        Returns it, and the depth that a ray of depth 1 in the tilted camera has in the first one.
        """
        h, w = image.shape[:2]
        linear = turn * pixels_per_network_pixel * (CROP_WIDTH / out_w)
        middle = (np.array([w, h]) - 1) / 2 + centre * pixels_per_network_pixel
        offset = middle - linear @ ((np.array([out_w, out_h]) - 1) / 2)
        affine = np.vstack((np.column_stack((linear, offset)), (0, 0, 1)))
        if tilted is None:
            warped = cv2.warpAffine(image, affine[:2], (out_w, out_h), borderMode=border,
                                    flags=interpolation | cv2.WARP_INVERSE_MAP)
            return warped, np.ones((1, 1), np.float32)
        camera = np.array([[focal * w, 0, (w - 1) / 2], [0, focal * w, (h - 1) / 2], [0, 0, 1]])
        matrix = camera @ tilted @ np.linalg.inv(camera) @ affine
        x, y = np.arange(out_w), np.arange(out_h)[:, None]
        ray_depth = (matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]).astype(np.float32)
        return cv2.warpPerspective(image, matrix, (out_w, out_h), borderMode=border,
                                   flags=interpolation | cv2.WARP_INVERSE_MAP), ray_depth

    rgb, _ = window(small, shrunk / zoom, CROP_WIDTH, CROP_HEIGHT,
                    cv2.INTER_NEAREST if config.nearest else cv2.INTER_LINEAR,
                    cv2.BORDER_REPLICATE)
    depth, ray_depth = window(depth, 1 / zoom, CROP_WIDTH // 2, CROP_HEIGHT // 2,
                              cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    # a wide lens, turned, sees past its own side: there depth would be endless, or behind it
    depth = np.divide(depth, ray_depth * np.float32(s), out=np.zeros_like(depth),
                      where=np.broadcast_to(ray_depth > 0, depth.shape))
    depth[depth > MAX_DEPTH] = 0
    return rgb, depth


def _change_light(rgb: Colour, gain: npt.NDArray[np.float32], rng: np.random.Generator,
                  config: AugmentationConfig) -> tuple[Colour, npt.NDArray[np.float32]]:
    """The photometric changes. Returns the image and the gain that is still to be applied."""
    gamma, brightness, contrast, saturation = (
        config.gamma, config.brightness, config.contrast, config.saturation)
    if not any((gamma, brightness, contrast, saturation, config.grey, config.noise, config.blur,
                config.coarse, config.erase)):
        return rgb, gain
    # what changes each channel by itself is a table of 256 levels
    levels = np.arange(256, dtype=np.float32)[:, None] / 255 * gain
    if gamma:
        levels = np.clip(levels, 0, 1) ** np.float32(np.exp(rng.uniform(-gamma, gamma)))
    if brightness or contrast:
        counts = np.column_stack([cv2.calcHist([rgb], [i], None, [256], [0, 256])
                                  for i in range(3)])
        mean = np.float32((counts * levels).sum(dtype=np.float64) / rgb.size)
        levels = (levels - mean) * np.float32(1 + rng.uniform(-contrast, contrast)) + mean
        levels *= np.float32(1 + rng.uniform(-brightness, brightness))
    values = cv2.LUT(rgb, 255 * levels[None])  # float32 in 0…255
    if saturation or config.grey:
        keep = 0.0 if rng.random() < config.grey else 1 + rng.uniform(-saturation, saturation)
        values = cv2.transform(values, keep * np.eye(3) + (1 - keep) * LUMA)
    if config.coarse and rng.random() < config.coarse:
        height, width = values.shape[:2]
        side = COARSEST ** -rng.random()
        values = cv2.resize(values, (round(width * side), round(height * side)),
                            interpolation=cv2.INTER_AREA)
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < config.blur:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(*BLUR_SIGMA))
    if rng.random() < config.noise:
        values += rng.standard_normal(values.shape, np.float32) * np.float32(
            255 * rng.uniform(*NOISE_SIGMA))
    if rng.random() < config.erase:
        high, wide = (int(side * rng.uniform(*ERASED_SIDE)) for side in values.shape[:2])
        top, left = (int(rng.uniform(0, side - size))
                     for side, size in zip(values.shape[:2], (high, wide)))
        values[top:top + high, left:left + wide] = 255 * rng.random(3, np.float32)
    return to_uint8(values), np.ones(3, np.float32)


def to_uint8(rgb: npt.NDArray[np.float32]) -> Colour:
    """Float H×W×3 in 0…255 → uint8, rounded, what lies outside clipped."""
    return cv2.addWeighted(rgb, 1, rgb, 0, 0, dtype=cv2.CV_8U)


def colour_statistics(rgb: Colour) -> npt.NDArray[np.float64]:
    """uint8 H×W×3 → mean and standard deviation of each channel of CIELAB, float64 2×3."""
    return _mean_and_spread(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))


def _mean_and_spread(lab: Colour) -> npt.NDArray[np.float64]:
    return np.hstack(cv2.meanStdDev(lab)).T


def transfer_colours(rgb: Colour, other: npt.NDArray[np.float64], strength: float) -> Colour:
    """An image with another image's colours, as if the same camera and light had made it.

    Mean and spread of each channel of CIELAB are moved. A spread changes by MAX_SPREAD_FACTOR at
    most.

    Args:
        rgb: uint8 H×W×3.
        other: :func:`colour_statistics` of the other image.
        strength: 0 leaves rgb as it is, 1 gives it all of other's colours.

    Source: Reinhard et al., *Color Transfer between Images*, 2001.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    (mean, spread), (other_mean, other_spread) = _mean_and_spread(lab), other
    slope = np.clip(other_spread / np.maximum(spread, 1),
                    1 / MAX_SPREAD_FACTOR, MAX_SPREAD_FACTOR) ** strength
    start = mean + strength * (other_mean - mean) - slope * mean
    levels = np.arange(256)[:, None] * slope + start
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(lab, table[None]), cv2.COLOR_LAB2RGB)


def paste_window(rgb: Colour, depth: Depth, other_rgb: Colour, other_depth: Depth,
                 rng: np.random.Generator) -> tuple[Colour, Depth]:
    """Cut a window out of another sample and paste it, colour and depth.

    The window keeps its place; each of its sides is PASTED_SIDE of the image's. Shapes as
    :class:`Sample` has them. rgb and depth are changed.

    Source: CutMix, Yun et al. 2019.
    """
    rows, columns = depth.shape
    high, wide = (int(side * rng.uniform(*PASTED_SIDE)) for side in (rows, columns))
    top, left = int(rng.uniform(0, rows - high)), int(rng.uniform(0, columns - wide))
    depth[top:top + high, left:left + wide] = other_depth[top:top + high, left:left + wide]
    pixels = np.s_[2 * top:2 * (top + high), 2 * left:2 * (left + wide)]
    rgb[pixels] = other_rgb[pixels]
    return rgb, depth
