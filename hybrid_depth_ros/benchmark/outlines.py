"""What becomes of points at outlines: ``python -m hybrid_depth_ros.benchmark.outlines``.

Virtual rooms seen by the network. Two things count: points that hang in the air between an object
and its background, and pixels of near objects that stay in the cloud, thin parts among them.
"""

from __future__ import annotations

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.arguments import exit_on_error
from hybrid_depth_ros.benchmark.room_arguments import (
    room_parser,
    room_seeds,
    walk_stops,
    write_report,
)
from hybrid_depth_ros.benchmark.stages import FOV
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.outlines import depth_edges, snap_edges
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.virtual_room import Room

SIZE = (640, 480)
PLACES = 4             # views of each room
JUMP = np.log(1.15)    # of log depth between neighbours: a true outline
REACH = 12             # pixels that an outline concerns
TOLERANCE = np.log(1.1)  # of log depth: a point that is farther from all surfaces is in the air
NEAR_TOLERANCE = np.log(1.15)  # of log depth beyond its surface: a near pixel that is lost
NEAR_RANGE = 3.0       # metres: of near objects
THIN = 15              # pixels: parts of near objects that are narrower are thin
SMOOTHING = 15.0       # pixels over which the network's scale error of a surface is averaged


class View(NamedTuple):
    """A view of a room, with its surfaces where the network sees them.

    Attributes:
        depth: H×W metres, predicted.
        surfaces: H×W, log of true depth, each surface moved by the network's own scale error.
        outline: bool H×W, pixels within REACH of a true outline.
        near: bool H×W, pixels of the near side of an outline.
        thin: bool H×W, those of thin parts.
    """

    depth: npt.NDArray[np.float32]
    surfaces: npt.NDArray[np.float32]
    outline: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]
    thin: npt.NDArray[np.bool_]


def _jumps(log_depth: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    jumps = np.zeros(log_depth.shape, bool)
    across = np.abs(np.diff(log_depth, axis=1)) > JUMP
    down = np.abs(np.diff(log_depth, axis=0)) > JUMP
    jumps[:, 1:] |= across
    jumps[:, :-1] |= across
    jumps[1:] |= down
    jumps[:-1] |= down
    return jumps


def _scale_error(error: npt.NDArray[np.float32],
                 jumps: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Log error of depth, averaged along each surface, away from outlines where it can be."""
    inner = cv2.dilate(jumps.astype(np.uint8), np.ones((2 * REACH + 1,) * 2)) == 0
    parts = cv2.connectedComponents((~jumps).astype(np.uint8), connectivity=4)[1]
    field = np.full(error.shape, np.nan, np.float32)
    for part in range(1, int(parts.max()) + 1):
        own = parts == part
        if own.sum() < 2 * THIN:
            continue
        counted = own & inner if (own & inner).sum() >= 4 * THIN else own
        weight = counted.astype(np.float32)
        total = cv2.GaussianBlur(error * weight, (0, 0), SMOOTHING)
        weights = cv2.GaussianBlur(weight, (0, 0), SMOOTHING)
        mean = np.where(weights > 1e-3, total / np.maximum(weights, 1e-3), error[counted].mean())
        field[own] = mean[own]
    return np.where(np.isnan(field), np.nanmedian(field), field).astype(np.float32)


def see(truth: npt.NDArray[np.float32], depth: npt.NDArray[np.float32]) -> View:
    """What counts in a view, by its true and its predicted depth (H×W metres)."""
    log = np.log(truth).astype(np.float32)
    jumps = _jumps(log)
    window = np.ones((2 * REACH + 1,) * 2, np.uint8)
    outline = cv2.dilate(jumps.astype(np.uint8), window) > 0
    nearest, farthest = cv2.erode(log, window), cv2.dilate(log, window)
    near = (outline & (farthest - log > JUMP) & (log - nearest < JUMP / 2)
            & (truth < NEAR_RANGE))
    solid = (log < nearest + JUMP / 2).astype(np.uint8)
    wide = cv2.morphologyEx(solid, cv2.MORPH_OPEN,
                            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THIN, THIN))) > 0
    surfaces = log + _scale_error(np.log(np.maximum(depth, 1e-3)) - log, jumps)
    return View(depth, surfaces, outline, near, near & ~wide)


def hanging(view: View, depth: npt.NDArray[np.float32]
            ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which points of a cloud's depth (NaN: no point) are of no surface.

    Returns:
        bool H×W: those in the air between an outline's two sides, and those in front of both.
    """
    window = np.ones((2 * REACH + 1,) * 2, np.uint8)
    nearest, farthest = cv2.erode(view.surfaces, window), cv2.dilate(view.surfaces, window)
    with np.errstate(invalid='ignore', divide='ignore'):
        log = np.log(depth)
        v, u = np.nonzero(view.outline & (log > nearest) & (log < farthest))
        in_front = view.outline & (log < nearest - TOLERANCE)
    alone = np.ones(v.size, bool)
    surfaces = np.pad(view.surfaces, REACH, mode='edge')
    for dy in range(-REACH, REACH + 1, 2):
        for dx in range(-REACH, REACH + 1, 2):
            alone &= np.abs(surfaces[v + REACH + dy, u + REACH + dx] - log[v, u]) > TOLERANCE
    in_air = np.zeros_like(in_front)
    in_air[v[alone], u[alone]] = True
    return in_air, in_front


def score(views: Sequence[View], depths: Sequence[npt.NDArray[np.float32]]) -> dict[str, float]:
    """Points in the air and in front, a frame; shares of near pixels that stay, of thin parts.

    A near pixel in the air is of an object that is seen at a wrong depth as a whole: dropping it
    would lose the object. What is not of near objects is the curtain behind them.
    """
    counts: Counter[str] = Counter()
    for view, depth in zip(views, depths):
        in_air, in_front = hanging(view, depth)
        known = np.isfinite(depth)
        with np.errstate(invalid='ignore', divide='ignore'):
            at = known & (np.log(depth) < view.surfaces + NEAR_TOLERANCE)
        far = view.outline & ~view.near
        for name, mask in (('in air', in_air), ('curtain', in_air & ~view.near),
                           ('in front', in_front), ('near', view.near), ('kept', view.near & known),
                           ('thin', view.thin), ('thin kept', view.thin & known),
                           ('at', view.near & at), ('far', far), ('far kept', far & known)):
            counts[name] += int(mask.sum())
    return {'in the air, a frame': counts['in air'] / len(views),
            'of these not of near objects': counts['curtain'] / len(views),
            'in front, a frame': counts['in front'] / len(views),
            'near pixels kept': counts['kept'] / max(counts['near'], 1),
            'near pixels kept at their depth': counts['at'] / max(counts['near'], 1),
            'thin parts kept': counts['thin kept'] / max(counts['thin'], 1),
            'background kept': counts['far kept'] / max(counts['far'], 1)}


def rooms_seen(predictor: Any, seeds: Sequence[int]) -> list[View]:
    """Views of rooms of these seeds by a DepthPredictor."""
    camera = Intrinsics.from_horizontal_fov(*SIZE, FOV)
    views = []
    for seed in seeds:
        room = Room(seed)
        for seconds in walk_stops(seed, PLACES):
            rgb, truth = room.render(camera, room.camera_pose(seconds))
            views.append(see(truth, predictor(rgb, fx=camera.fx)))
    return views


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = room_parser(__doc__, 'outlines', 605).parse_args(argv)
    with exit_on_error('outlines'):
        views = rooms_seen(DepthPredictor(args.weights, 'cpu'),
                           room_seeds(args))
        ways: list[tuple[str, list[npt.NDArray[np.float32]]]] = [
            ('all points', [view.depth for view in views])]
        ways += [(f'dropped, {fraction}', [
            np.where(depth_edges(view.depth, fraction), np.float32(np.nan), view.depth)
            for view in views]) for fraction in (0.2, 0.1, 0.05)]
        ways += [(f'edge_filter {fraction}', [snap_edges(view.depth, fraction) for view in views])
                 for fraction in (0.2, 0.1, 0.05)]
        rows = [{'way': name, **score(views, depths)} for name, depths in ways]
        for row in rows:
            print(f'{row["way"]:18}' + '  '.join(
                f'{key} {value:.0f}' if value > 1 else f'{key} {value:.1%}'
                for key, value in row.items() if isinstance(value, float)))
        write_report(args, rows)


if __name__ == '__main__':
    main()
