"""One training sample of an RGB-D pair, by chance: the paper's augmentation and lite's."""

import cv2
import numpy as np

from hybrid_depth_ros.models.hybrid import (
    CROP_HEIGHT,
    CROP_WIDTH,
    NETWORK_WIDTH,
    NYU_FX_PER_WIDTH,
)

MAX_DEPTH = 100.0  # metres; beyond it a depth is not valid: no room is so large

AUGMENTATION = {
    # the paper's
    'scale': (1.0, 1.5),    # zoom by s, depths divided by s: a camera of s times the focal length
                            # sees an object at depth z as the first camera sees it at z/s
    'rotation': 5.0,        # degrees, either way
    'colour': (0.8, 1.2),   # factor of each channel
    'flip': 0.5,            # probability of mirroring
    'nearest': False,       # colour by nearest neighbour, as the paper; otherwise antialiased
    # what lite adds
    'border': 0,            # pixels at each side that are not scene content (NYU's white frame):
                            # painted over with their neighbours and not valid in depth
    'tilt': 0.0,            # degrees that the camera is turned up or down and to a side, at most,
                            # about its centre; depth becomes that along the new optical axis
    'brightness': 0.0,      # strengths of jitter: 0.2 is a factor of 0.8…1.2
    'contrast': 0.0,
    'gamma': 0.0,
    'saturation': 0.0,
    'grey': 0.0,            # probabilities: of grey-scale,
    'noise': 0.0,           # of sensor noise,
    'blur': 0.0,            # of blur,
    'erase': 0.0,           # of an erased rectangle, whose depth is asked for all the same
}
PHOTOMETRIC = ('gamma', 'brightness', 'contrast', 'saturation', 'grey', 'noise', 'blur', 'erase')


def augment(rgb, depth, rng, *, focal=NYU_FX_PER_WIDTH, **changes):
    """One training sample by the paper's recipe (section 4), and what lite adds to it.

    rgb uint8 H×W×3, depth float32 H×W metres → rgb uint8 256×320×3; gain float32 3, what its
    channels are still to be multiplied by (:func:`~train.data.to_input`), so that a colour factor
    alone rounds nothing; depth float32 128×160 metres, 0 = not valid. Resized to 352×264, zoomed,
    rotated, cropped 320×256 at random, mirrored. Depth is sampled by nearest neighbour, so that
    no depth is invented between two surfaces.

    focal: the camera's focal length per image width, which a tilt needs. changes: of
    ``AUGMENTATION``; TypeError for another name.
    """
    if unknown := changes.keys() - AUGMENTATION.keys():
        raise TypeError(f'augment has no {", ".join(unknown)}; known: {", ".join(AUGMENTATION)}')
    settings = {**AUGMENTATION, **changes}
    if border := settings['border']:
        inner = slice(border, -border)
        rgb = cv2.copyMakeBorder(rgb[inner, inner], border, border, border, border,
                                 cv2.BORDER_REPLICATE)
        depth = cv2.copyMakeBorder(depth[inner, inner], border, border, border, border,
                                   cv2.BORDER_CONSTANT, value=0)
    rgb, depth = _other_view(rgb, depth, rng, focal, settings)
    gain = rng.uniform(*settings['colour'], size=3).astype(np.float32)
    return *_other_light(rgb, gain, rng, settings), depth


def _other_view(rgb, depth, rng, focal, settings):
    """Zoom, rotation, tilt, crop and mirror, in one warp each for colour and depth."""
    height, width = depth.shape
    nearest, tilt = settings['nearest'], settings['tilt']
    s = rng.uniform(*settings['scale'])
    zoom = s * NETWORK_WIDTH / width  # source pixels → network pixels
    angle = np.deg2rad(rng.uniform(-settings['rotation'], settings['rotation']))
    mirror = -1.0 if rng.random() < settings['flip'] else 1.0
    # Random crop: where the window's centre may lie when it is to stay inside the image.
    slack_x = max(0.0, (width * zoom - CROP_WIDTH) / 2)
    slack_y = max(0.0, (height * zoom - CROP_HEIGHT) / 2)
    centre = np.array([rng.uniform(-slack_x, slack_x), rng.uniform(-slack_y, slack_y)])

    # Shrink with antialiasing first, then one warp for rotation, crop and mirror.
    shrunk = zoom / s if nearest else zoom
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrunk < 1 else cv2.INTER_LINEAR)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([mirror, 1.0])
    if tilt:
        up, side = (cv2.Rodrigues(axis * radians)[0] for axis, radians in
                    zip(np.eye(3), np.deg2rad(rng.uniform(-tilt, tilt, size=2))))
        turned = up @ side

    def window(shape_hw, pixels_per_network_pixel, out_w, out_h, image, interpolation, mode):
        """Sample out_h × out_w around the window's centre; exact for both resolutions."""
        h, w = shape_hw
        linear = turn * pixels_per_network_pixel * (CROP_WIDTH / out_w)
        middle = (np.array([w, h]) - 1) / 2 + centre * pixels_per_network_pixel
        offset = middle - linear @ ((np.array([out_w, out_h]) - 1) / 2)
        affine = np.vstack((np.column_stack((linear, offset)), (0, 0, 1)))
        if not tilt:
            return cv2.warpAffine(image, affine[:2], (out_w, out_h), borderMode=mode,
                                  flags=interpolation | cv2.WARP_INVERSE_MAP), np.float32(1)
        camera = np.array([[focal * w, 0, (w - 1) / 2], [0, focal * w, (h - 1) / 2], [0, 0, 1]])
        # a pixel's ray in the turned camera, of depth 1, has this depth in the first camera
        matrix = camera @ turned @ np.linalg.inv(camera) @ affine
        x, y = np.arange(out_w), np.arange(out_h)[:, None]
        ray_depth = (matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]).astype(np.float32)
        return cv2.warpPerspective(image, matrix, (out_w, out_h), borderMode=mode,
                                   flags=interpolation | cv2.WARP_INVERSE_MAP), ray_depth

    rgb, _ = window(small.shape[:2], shrunk / zoom, CROP_WIDTH, CROP_HEIGHT, small,
                 cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    depth, ray_depth = window(depth.shape, 1 / zoom, CROP_WIDTH // 2, CROP_HEIGHT // 2, depth,
                              cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    # a wide lens, turned, sees past its own side: there depth would be endless, or behind it
    depth = np.divide(depth, ray_depth * np.float32(s), out=np.zeros_like(depth),
                      where=np.broadcast_to(ray_depth > 0, depth.shape))
    depth[depth > MAX_DEPTH] = 0
    return rgb, depth


def _other_light(rgb, gain, rng, settings):
    """The photometric part; returns the picture and the gain that is left to do."""
    if not any(settings[name] for name in PHOTOMETRIC):
        return rgb, gain
    gamma, brightness, contrast, saturation, grey, noise, blur, erase = (
        settings[name] for name in PHOTOMETRIC)
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
    rgb = cv2.LUT(rgb, 255 * levels[None])
    if saturation or grey:
        keep = 0.0 if rng.random() < grey else 1 + rng.uniform(-saturation, saturation)
        rgb = cv2.transform(rgb, keep * np.eye(3) + (1 - keep) * np.array([0.299, 0.587, 0.114]))
    if rng.random() < blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < noise:
        rgb += rng.standard_normal(rgb.shape, np.float32) * np.float32(
            255 * rng.uniform(0.005, 0.04))
    if rng.random() < erase:
        high, wide = (int(side * rng.uniform(0.1, 0.4)) for side in rgb.shape[:2])
        top, left = (int(rng.uniform(0, side - size))
                     for side, size in zip(rgb.shape[:2], (high, wide)))
        rgb[top:top + high, left:left + wide] = 255 * rng.random(3, np.float32)
    return to_uint8(rgb), np.ones(3, np.float32)


def to_uint8(rgb):
    """Float H×W×3 in 0…255 → uint8, rounded, what lies outside clipped."""
    return cv2.addWeighted(rgb, 1, rgb, 0, 0, dtype=cv2.CV_8U)


def colour_statistics(rgb):
    """uint8 H×W×3 → mean and standard deviation of each channel of CIELAB, 2×3."""
    return _mean_and_spread(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))


def _mean_and_spread(lab):
    return np.hstack(cv2.meanStdDev(lab)).T


def transfer_colours(rgb, other, strength):
    """A picture with another's colours: the mean and spread of each channel of CIELAB
    (Reinhard et al., *Color Transfer between Images*, 2001), so that a rendered picture has the
    light and the white balance of a camera's.

    rgb: uint8 H×W×3; other: :func:`colour_statistics` of the other; strength: 0 leaves rgb as it
    is, 1 gives it all of other's. A channel's spread changes by a factor of 2 at most: noise is not
    blown up.
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    (mean, spread), (other_mean, other_spread) = _mean_and_spread(lab), other
    slope = np.clip(other_spread / np.maximum(spread, 1), 0.5, 2) ** strength
    start = mean + strength * (other_mean - mean) - slope * mean
    levels = np.arange(256)[:, None] * slope + start
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(lab, table[None]), cv2.COLOR_LAB2RGB)


def paste_window(rgb, depth, other_rgb, other_depth, rng):
    """Cut a window out of another sample and paste it, depth and all (CutMix, Yun et al. 2019).

    Samples as :func:`augment` makes them; the window keeps its place, a fifth to a half of each
    side. Returns rgb and depth.
    """
    rows, columns = depth.shape
    high, wide = (int(side * rng.uniform(0.2, 0.5)) for side in (rows, columns))
    top, left = int(rng.uniform(0, rows - high)), int(rng.uniform(0, columns - wide))
    depth[top:top + high, left:left + wide] = other_depth[top:top + high, left:left + wide]
    pixels = np.s_[2 * top:2 * (top + high), 2 * left:2 * (left + wide)]
    rgb[pixels] = other_rgb[pixels]
    return rgb, depth
