"""How well depth shows a robot its obstacles: found, at the right distance, none that are false."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.floor_plane import FloorPlane, fit_floor
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    Scan,
    find_obstacles,
    obstacle_cells,
    obstacle_scan,
    scan_angles,
)

WITHIN = (1.0, 2.0, 3.0)  # metres
MARGIN = 1.25             # an obstacle is found up to this factor beyond its true distance
FREE_MARGIN = 1.3         # a direction is free if nothing stands within this factor of a range
CELL = 0.05               # metres, of the floor plane
CELL_TOLERANCE = 0.25     # metres, a robot's radius: cells so near to true ones are right
SETTINGS = ObstacleSettings()


class ObstacleScores:
    """Predicted obstacles against true ones, pooled over images.

    Both are found by :mod:`hybrid_depth_ros.obstacles`: the true ones above the true floor, the
    predicted ones above the floor that the depth has itself.

    Args:
        settings: What counts as an obstacle.
    """

    def __init__(self, settings: ObstacleSettings = SETTINGS) -> None:
        self.images = self.without_floor = 0
        self._settings = settings
        self._true = dict.fromkeys(WITHIN, 0)
        self._found = dict.fromkeys(WITHIN, 0)
        self._free = dict.fromkeys(WITHIN, 0)
        self._false = dict.fromkeys(WITHIN, 0)
        self._ratios: list[npt.NDArray[np.floating]] = []
        self._cells = dict.fromkeys(('true', 'missed', 'predicted', 'false', 'free', 'blocked'), 0)

    def add(self, predicted: npt.NDArray[np.float32], truth: npt.NDArray[np.float32],
            intrinsics: Intrinsics, height: float, down: npt.ArrayLike) -> None:
        """Add one image.

        Args:
            predicted: H×W metres, NaN where unknown.
            truth: H×W metres, NaN where unknown.
            intrinsics: Of both.
            height: Metres of the camera above the floor.
            down: 3, gravity in the optical frame.
        """
        level = FloorPlane.from_gravity(height, down)
        plane, _ = fit_floor(predicted, intrinsics, height, down)
        self.images += 1
        self.without_floor += plane is None
        angles = scan_angles(intrinsics, level, self._settings)
        true_obstacles = find_obstacles(truth, intrinsics, level,
                                        replace(self._settings, edge_filter=0.0))
        obstacles = find_obstacles(predicted, intrinsics, plane or level, self._settings)
        scan = obstacle_scan(obstacles, angles)
        self._add_scans(scan, obstacle_scan(true_obstacles, angles))
        self._add_cells(obstacle_cells(obstacles, CELL), obstacle_cells(true_obstacles, CELL), scan)

    def _add_scans(self, predicted: Scan, truth: Scan) -> None:
        near, true = predicted.ranges, truth.ranges
        for within in WITHIN:
            obstacle = true < within
            self._true[within] += int(obstacle.sum())
            self._found[within] += int((near[obstacle] <= MARGIN * true[obstacle]).sum())
            free = true > FREE_MARGIN * within  # NaN is not
            self._free[within] += int(free.sum())
            self._false[within] += int((near[free] < within).sum())
        both = np.isfinite(true) & np.isfinite(near)
        self._ratios.append(np.abs(near[both] / true[both] - 1))

    def _add_cells(self, predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_],
                   scan: Scan) -> None:
        reach = round(CELL_TOLERANCE / CELL)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        around_true, around_predicted = (cv2.dilate(cells.astype(np.uint8), disc) > 0
                                         for cells in (true, predicted))
        free = self._free_cells(scan, predicted.shape)
        for name, cells in (('true', true), ('missed', true & ~around_predicted),
                            ('predicted', predicted), ('false', predicted & ~around_true),
                            ('free', free), ('blocked', free & true)):
            self._cells[name] += int(cells.sum())

    def _free_cells(self, scan: Scan, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Cells of the floor plane up to the scan's obstacles, within the range."""
        farthest = self._settings.max_range
        x = (np.arange(shape[0]) + 0.5)[:, None] * CELL
        y = (np.arange(shape[1]) + 0.5)[None] * CELL - farthest
        distance = np.hypot(x, y)
        place = (np.arctan2(y, x) - scan.angle_min) / scan.angle_increment
        index = np.rint(place).astype(int)
        inside = (index >= 0) & (index < scan.ranges.size) & (distance <= farthest)
        ranges = scan.ranges[index.clip(0, scan.ranges.size - 1)]
        return np.asarray(inside & (distance < ranges - CELL))  # not where it is NaN

    def report(self) -> dict[str, Any]:
        """Shares and errors, None where nothing counts; fit for JSON."""
        ratios = np.concatenate(self._ratios) if self._ratios else np.empty(0)

        def share(part: int, whole: int) -> float | None:
            return part / whole if whole else None
        return {
            'images': self.images, 'without_floor': self.without_floor,
            'recall': {f'{within:g}': share(self._found[within], self._true[within])
                       for within in WITHIN},
            'false': {f'{within:g}': share(self._false[within], self._free[within])
                      for within in WITHIN},
            'distance_error_median': float(np.median(ratios)) if ratios.size else None,
            'distance_error_90': float(np.percentile(ratios, 90)) if ratios.size else None,
            'cells_missed': share(self._cells['missed'], self._cells['true']),
            'cells_false': share(self._cells['false'], self._cells['predicted']),
            'free_cells_blocked': share(self._cells['blocked'], self._cells['free'])}

    def table(self) -> str:
        """Lines for people."""
        return format_obstacles(self.report())


def format_obstacles(report: Mapping[str, Any]) -> str:
    """Lines for people of :meth:`ObstacleScores.report`."""
    def text(value: float | None) -> str:
        return '–' if value is None else f'{value:.1%}'
    lines = [f'obstacles in {report["images"]} images, {report["without_floor"]} without a '
             'floor', f'{"":34}' + ''.join(f'{f"{within:g} m":>9}' for within in WITHIN)]
    lines += [f'{head:34}' + ''.join(f'{text(value):>9}' for value in report[key].values())
              for head, key in (('directions with an obstacle: found', 'recall'),
                                ('free directions: false obstacles', 'false'))]
    lines += [f'{head:34}{text(report[key]):>9}' for head, key in (
        ('distance error, median', 'distance_error_median'),
        ('distance error, 90 %', 'distance_error_90'),
        ('5 cm cells: missed', 'cells_missed'), ('5 cm cells: false', 'cells_false'),
        ('free 5 cm cells: blocked in truth', 'free_cells_blocked'))]
    return '\n'.join(lines)
