"""Images for people: depth as colours with a scale in metres, panels side by side, anchors."""

import cv2
import numpy as np
import numpy.typing as npt

BAR_WIDTH, MARGIN = 14, 8  # pixels at an image height of 480
FULL_COLOUR_SHARE = 0.5  # of depth: a standard deviation from there on is white
FULL_COLOUR_RESIDUAL = 0.3  # of log depth: from there on red or blue has no green left
# The map of the floor
PIXELS_PER_METRE = 80
BACKGROUND, RINGS, FREE, OBSTACLE, TRUE_OBSTACLE = (
    (250, 250, 250), (205, 205, 205), (222, 240, 222), (190, 50, 35), (60, 110, 200))


def depth_range(*depths: npt.NDArray[np.floating]) -> tuple[float, float]:
    """(nearest, farthest) metres that hold 98 % of the finite depths, for a common scale.

    They are always apart, however large.
    """
    finite = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not finite.size:
        return 0.0, 1.0
    near, far = np.percentile(finite, (1, 99))
    return float(near), float(max(far, near + max(0.1, abs(near) / 1000)))


def colour_depth(depth: npt.NDArray[np.floating], near: float,
                 far: float) -> npt.NDArray[np.uint8]:
    """Depth float H×W metres → RGB uint8 H×W×3: warm is near, cold is far, black unknown."""
    known = np.isfinite(depth)
    share = np.clip((depth - near) * (255 / (far - near)), 0, 255)
    levels = np.where(known, 255 - share, 0).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB, dst=colours)
    if not known.all():
        colours[~known] = 0
    return colours.astype(np.uint8, copy=False)


def colour_uncertainty(sigma: npt.NDArray[np.floating],
                       depth: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """How sure depth is → RGB uint8 H×W×3: dark is sure, bright is not, black unknown.

    Args:
        sigma: H×W metres, one standard deviation of depth.
        depth: H×W metres.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        share = np.clip(sigma / depth / FULL_COLOUR_SHARE, 0, 1)
    known = np.isfinite(share)
    levels = (20 + 235 * np.where(known, share, 0)).astype(np.uint8)  # unknown alone is black
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colours, np.uint8(0)).astype(np.uint8, copy=False)


def scale_bar(height: int, near: float, far: float) -> npt.NDArray[np.uint8]:
    """The colours of :func:`colour_depth` beside their metres, RGB uint8 height×W×3."""
    size = max(1.0, height / 480)
    width = round((BAR_WIDTH + MARGIN + 62) * size)
    bar = np.zeros((height, width, 3), np.uint8)
    top, bottom = round(20 * size), height - round(20 * size)
    left, right = round(MARGIN * size), round((MARGIN + BAR_WIDTH) * size)
    levels = np.linspace(near, far, max(2, bottom - top))[:, None]
    bar[top:top + len(levels), left:right] = colour_depth(
        np.repeat(levels, right - left, axis=1), near, far)[:height - top]
    decade = 10.0 ** np.floor(np.log10((far - near) / 8))
    step = next(s * decade for s in (1, 2, 5, 10, 20) if (far - near) / (s * decade) <= 8)
    step = max(step, 0.1)  # the labels have one decimal
    for metres in step * np.arange(np.ceil(near / step), np.floor(far / step + 1e-9) + 1):
        y = round(top + (metres - near) / (far - near) * (bottom - top))
        label = f'{metres:.1f} m' if metres < 1e4 else f'{metres:.0e} m'
        cv2.putText(bar, label, (right + round(5 * size), y + round(4 * size)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.42 * size, (255, 255, 255), max(1, round(size)),
                    cv2.LINE_AA)
    return bar


def side_by_side(rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.floating],
                 truth: npt.NDArray[np.floating] | None = None,
                 anchored: npt.NDArray[np.floating] | None = None,
                 sigma: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.uint8]:
    """RGB | depth (| anchored depth) (| uncertainty) (| true depth) | scale in metres, RGB uint8.

    Args:
        rgb: uint8 H×W×3.
        depth: H×W metres; this and the others are drawn on one common scale.
        truth: H×W metres.
        anchored: H×W metres, depth after correction by anchors.
        sigma: H×W metres, one standard deviation of `anchored`, or else of `depth`.
    """
    near, far = depth_range(*(d for d in (depth, truth, anchored) if d is not None))
    panels = [('camera', rgb), ('depth from the network', colour_depth(depth, near, far))]
    if anchored is not None:
        panels.append(('anchored', colour_depth(anchored, near, far)))
    if sigma is not None:
        panels.append((f'uncertainty: white is {FULL_COLOUR_SHARE:.0%} or more', colour_uncertainty(
            sigma, depth if anchored is None else anchored)))
    if truth is not None:
        panels.append(('true depth', colour_depth(truth, near, far)))
    return np.hstack([*(titled(panel, name) for name, panel in panels),
                      scale_bar(rgb.shape[0], near, far)])


def titled(image: npt.NDArray[np.uint8], title: str) -> npt.NDArray[np.uint8]:
    """Return a uint8 H×W×3 image with a title in its upper left corner."""
    image, size = np.ascontiguousarray(image).copy(), max(0.4, image.shape[0] / 480)
    image[:round(34 * size)] //= 3  # white text on it can always be read
    cv2.putText(image, title, (round(10 * size), round(24 * size)), cv2.FONT_HERSHEY_SIMPLEX,
                0.6 * size, (255, 255, 255), max(1, round(size)), cv2.LINE_AA)
    return image


def residual_colours(residuals: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """log of measured / corrected depth, N → RGB uint8 N×3.

    Green where both agree, red where 30 % nearer was measured, blue where farther, grey where
    there is no depth.
    """
    off = np.clip(np.nan_to_num(residuals) / FULL_COLOUR_RESIDUAL, -1, 1)[:, None]
    colours = 255 * np.where(off < 0, [[0, 1, 0]] + off * [[-1, 1, 0]],
                             [[0, 1, 0]] + off * [[0, -1, 1]])
    colours[~np.isfinite(residuals)] = 128
    return colours.astype(np.uint8)


def draw_anchors(rgb: npt.NDArray[np.uint8], u: npt.NDArray[np.floating],
                 v: npt.NDArray[np.floating],
                 colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A copy of uint8 H×W×3 with a dot at each column u and row v, in its colour (N×3)."""
    drawn, size = rgb.copy(), max(1, rgb.shape[1] // 200)
    for place, colour in zip(np.rint(np.stack((u, v), 1)).astype(int).tolist(), colours.tolist()):
        cv2.circle(drawn, place, size + 1, (0, 0, 0), -1)
        cv2.circle(drawn, place, size, colour, -1)
    return drawn


def draw_floor_map(points: npt.NDArray[np.floating], angles: npt.NDArray[np.floating],
                   ranges: npt.NDArray[np.floating], reach: float,
                   truth: npt.NDArray[np.floating] | None = None) -> npt.NDArray[np.uint8]:
    """Draw obstacles and free space, the camera in the middle below, forward upwards.

    Args:
        points: N×2, obstacles, metres forward and to the left.
        angles: M radians to the left of forward, of a scan.
        ranges: M metres; inf: free up to `reach`, NaN: unknown.
        reach: Metres of the map, ahead and to each side.
        truth: K×2, true obstacles, drawn below the others.

    Returns:
        uint8 H×2H×3, RGB.
    """
    size = round(reach * PIXELS_PER_METRE)
    image = np.full((size, 2 * size, 3), BACKGROUND, np.uint8)

    def pixels(places: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
        return np.stack((size - places[:, 1] * PIXELS_PER_METRE,
                         size - 1 - places[:, 0] * PIXELS_PER_METRE), 1).round().astype(np.int32)
    half = np.abs(np.diff(angles)).mean() / 2 if angles.size > 1 else 0.0
    with np.errstate(invalid='ignore'):
        far = np.minimum(ranges, reach)
    for angle, length in zip(angles[~np.isnan(far)], far[~np.isnan(far)]):
        corners = np.array([[0.0, 0.0], *(length * np.array([np.cos(side), np.sin(side)])
                                          for side in (angle - half, angle + half))])
        cv2.fillConvexPoly(image, pixels(corners), FREE)
    for metres in range(1, int(np.ceil(reach)) + 1):
        cv2.circle(image, (size, size - 1), metres * PIXELS_PER_METRE, RINGS, 1, cv2.LINE_AA)
        cv2.putText(image, f'{metres} m', (size + 3, size + 14 - metres * PIXELS_PER_METRE),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.4, (120, 120, 120), 1, cv2.LINE_AA)
    for places, colour in ((truth, TRUE_OBSTACLE), (points, OBSTACLE)):
        if places is not None:
            x, y = pixels(places).T
            inside = (x >= 1) & (x < 2 * size - 1) & (y >= 1) & (y < size - 1)
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    image[y[inside] + dy, x[inside] + dx] = colour
    cv2.circle(image, (size, size - 1), 6, (40, 40, 40), -1, cv2.LINE_AA)
    return image
