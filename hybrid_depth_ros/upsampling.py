"""Depth of the network's size to the image's size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

RADIUS = 1                # pixels of the small depth around which depth is a line of brightness
EVEN_VARIANCE = 5e-4      # variance of brightness (0…1) below which a place counts as even


def upsample(depth: npt.NDArray[np.float32], width: int, height: int,
             guidance_image: npt.NDArray[np.uint8] | None = None,
             small_image: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.float32]:
    """Enlarge depth; with a guidance image its outlines follow the image's.

    A guided filter takes depth in each small window as a line of the image's brightness. So a step
    of depth becomes as sharp as the image's step there, and an even place loses the network's grid.
    Depth stays between the least and the largest of `depth`.

    Args:
        depth: float32 h×w, metres.
        width: Pixels of the result.
        height: Pixels of the result.
        guidance_image: uint8 height×width×3, RGB; None: bilinear.
        small_image: The guidance image shrunk to any size; None: it is shrunk here.

    Returns:
        float32 height×width, metres.

    Source:
        He, Sun, Tang, *Guided Image Filtering*, TPAMI 2013, section 3, at the small size as in
        their *Fast Guided Filter*, 2015.
    """
    enlarged: Any  # OpenCV keeps the type, its stubs do not know which
    if guidance_image is None:
        enlarged = cv2.resize(depth, (width, height))
        return enlarged
    grey = cv2.cvtColor(guidance_image, cv2.COLOR_RGB2GRAY)
    guidance: npt.NDArray[Any] = grey
    if small_image is not None:
        guidance = cv2.cvtColor(small_image, cv2.COLOR_RGB2GRAY)
    guidance = cv2.resize(guidance, depth.shape[::-1],
                          interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    slope, offset = _fit_lines(guidance, depth)
    enlarged = cv2.multiply(cv2.resize(slope, (width, height)), grey, scale=1 / 255,
                            dtype=cv2.CV_32F)
    enlarged = cv2.add(enlarged, cv2.resize(offset, (width, height)), enlarged)
    low, high, *_ = cv2.minMaxLoc(depth)
    return np.clip(enlarged, np.float32(low), np.float32(high), out=enlarged)


def _fit_lines(guidance: npt.NDArray[Any], depth: npt.NDArray[Any]) -> tuple[
        npt.NDArray[Any], npt.NDArray[Any]]:
    """Slope and offset of depth over the guidance around each pixel, float32 of one shape."""
    def mean(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return cv2.blur(values, (2 * RADIUS + 1,) * 2, borderType=cv2.BORDER_REFLECT)
    guidance_mean, depth_mean = mean(guidance), mean(depth)
    covariance = mean(guidance * depth) - guidance_mean * depth_mean
    variance = mean(guidance * guidance) - guidance_mean * guidance_mean
    slope = covariance / (variance + np.float32(EVEN_VARIANCE))
    return mean(slope), mean(depth_mean - slope * guidance_mean)
