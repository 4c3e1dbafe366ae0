"""Small depth to the picture's size: smoothly, or with its outlines where the picture's are."""

import cv2
import numpy as np

RADIUS = 1        # pixels of the small depth: within what depth is a line of brightness
SMOOTH = 5e-4     # variance of brightness (0…1) below which a place counts as even


def upsample(depth, width, height, picture=None, small=None):
    """Depth float32 h×w → float32 height×width, metres.

    picture: uint8 of height×width×3, RGB. With it, depth in each small window is taken to be a line
    of the picture's brightness (guided filter: He, Sun, Tang, *Guided Image Filtering*, TPAMI 2013,
    section 3; at the small size, as their *Fast Guided Filter*, 2015): a step of depth becomes as
    sharp as the picture's step there, an even place loses the network's grid. Depth stays between
    the least and the largest of `depth`. Without it, bilinear. small: the picture as it was shrunk
    before, of any size; without it, it is shrunk here.
    """
    if picture is None:
        return cv2.resize(depth, (width, height))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    guide = grey if small is None else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    guide = cv2.resize(guide, depth.shape[::-1], interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    slope, start = _lines(guide, depth)
    enlarged = cv2.multiply(cv2.resize(slope, (width, height)), grey, scale=1 / 255,
                            dtype=cv2.CV_32F)
    enlarged = cv2.add(enlarged, cv2.resize(start, (width, height)), enlarged)
    low, high, *_ = cv2.minMaxLoc(depth)
    return np.clip(enlarged, np.float32(low), np.float32(high), out=enlarged)


def _lines(guide, depth):
    """Slope and start of depth over the guide, around each pixel; float32 of one shape."""
    def mean(values):
        return cv2.blur(values, (2 * RADIUS + 1,) * 2, borderType=cv2.BORDER_REFLECT)
    guide_mean, depth_mean = mean(guide), mean(depth)
    covariance = mean(guide * depth) - guide_mean * depth_mean
    variance = mean(guide * guide) - guide_mean * guide_mean
    slope = covariance / (variance + np.float32(SMOOTH))
    return mean(slope), mean(depth_mean - slope * guide_mean)
