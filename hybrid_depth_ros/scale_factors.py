"""The factor of a camera's depth by one distance that somebody measured with a tape; its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from hybrid_depth_ros.files import write_bytes_atomically
from hybrid_depth_ros.geometry import Intrinsics

FACTORS = (0.1, 10.0)     # from the least to the most that is believed
WINDOW = 0.02             # of the image's width: how far depth is looked at around the pixel
MAX_SPREAD = 0.1          # of depth around the pixel, from the 10th to the 90th percentile
HEADER = """\
# What depth of a camera is multiplied by; the depth node's calibrate_scale wrote it.
# To forget a factor, call reset_scale or delete its lines.
"""


@dataclass(frozen=True)
class ScaleFactor:
    """What a camera's depth is multiplied by.

    Attributes:
        factor: Measured / estimated depth.
        distance: Metres, as it was measured.
    """

    factor: float
    distance: float


def distance_at(depths: Sequence[npt.NDArray[np.float32]], u: float, v: float,
                intrinsics: Intrinsics | None) -> float:
    """How far what several depth images show at a pixel is from the camera, in a straight line.

    Args:
        depths: float32 H×W each, metres, NaN where unknown.
        u: Column.
        v: Row.
        intrinsics: Of the images; None: depth at the pixel is taken for the distance.

    Returns:
        Metres, the median around the pixel and over the images.

    Raises:
        ValueError: The pixel lies outside, nothing is known there, or an outline runs through it.
    """
    height, width = depths[0].shape
    if not (0 <= u <= width - 1 and 0 <= v <= height - 1):
        raise ValueError(f'pixel {u:g} {v:g} is not in the image, which is {width}×{height}')
    reach = max(1, round(WINDOW * width))
    column, row = round(u), round(v)
    around = np.concatenate([depth[max(row - reach, 0):row + reach + 1,
                                   max(column - reach, 0):column + reach + 1].ravel()
                             for depth in depths])
    known = around[np.isfinite(around)]
    if known.size < around.size / 2:
        raise ValueError(f'no depth is known at pixel {u:g} {v:g}: choose another one')
    low, middle, high = np.percentile(known, (10, 50, 90))
    if high - low > MAX_SPREAD * middle:
        raise ValueError(f'depth around pixel {u:g} {v:g} runs from {low:.2f} to {high:.2f} m: '
                         'choose a pixel in the middle of an even thing that faces the camera')
    if intrinsics is None:
        return float(middle)
    x, y = (u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy
    return float(middle) * math.sqrt(1 + x * x + y * y)


def measure_factor(estimated: float, distance: float) -> ScaleFactor:
    """The factor that makes an estimated distance the measured one, both in metres.

    Raises:
        ValueError: It would not be believed.
    """
    factor = distance / estimated
    if not FACTORS[0] <= factor <= FACTORS[1]:
        raise ValueError(f'{estimated:.2f} m is estimated there, {distance:g} m was measured: so '
                         'far off is no scale; see that both are of the same thing')
    return ScaleFactor(factor, distance)


class ScaleFile:
    """The factors of cameras and weights, kept in a YAML file.

    Args:
        path: Of the file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, camera: str, weights: str) -> ScaleFactor | None:
        """The factor of a camera with these weights; None where there is none.

        Raises:
            OSError: The file can't be read.
            ValueError: It is damaged.
        """
        entry = self._entries().get(camera, {}).get(weights)
        return ScaleFactor(float(entry['factor']), float(entry['distance'])) if entry else None

    def write(self, camera: str, weights: str, scale: ScaleFactor | None) -> None:
        """Keep the factor of a camera with these weights; None: forget it.

        Raises:
            OSError: The file can't be written.
            ValueError: It is damaged; it stays as it is.
        """
        entries = self._entries()
        of_camera = entries.setdefault(camera, {})
        of_camera.pop(weights, None)
        if scale:
            of_camera[weights] = {'factor': round(scale.factor, 5), 'distance': scale.distance}
        entries = {name: factors for name, factors in entries.items() if factors}
        text = HEADER + yaml.safe_dump(entries, allow_unicode=True)
        write_bytes_atomically(self.path, text.encode())

    def _entries(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            entries = yaml.safe_load(text) or {}
            for factors in entries.values():
                for entry in factors.values():
                    good = FACTORS[0] <= float(entry['factor']) <= FACTORS[1]
                    if not good or not float(entry['distance']) > 0:
                        raise ValueError('out of range')
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{self.path} is not what calibrate_scale wrote (a factor of '
                f'{FACTORS[0]:g} to {FACTORS[1]:g} and a distance for each camera and weights): '
                'mend it, or delete it and calibrate again') from error
        return dict(entries)
