"""Sparse linear systems on an image's grid, by conjugate gradients with a multigrid cycle.

The system is (L + diag(precision)) x = information, where L is the Laplacian of a graph that links
each pixel with its four neighbours, with one conductance for each link. Such systems are as badly
conditioned as the conductances differ. A coarser grid has one node for 2×2 pixels, its links are
sums of theirs.

Sources: D. Braess, *Towards Algebraic Multigrid for Elliptic Problems of Second Order*, 1995; D.
Krishnan and R. Szeliski, *Multigrid and Multilevel Preconditioners for Computational Photography*,
2011.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LEVELS = 6  # grids, where the finest is an image's
# Of the summed conductances: nodes of a coarser grid lie twice as far apart (Braess' 1 / 1.8).
COARSENING = np.float32(0.55)
_DAMPING = np.float32(0.7)  # of Jacobi's steps


class Links(NamedTuple):
    """Conductances on one grid, float32 rows×columns each. right: to the next column, 0 in the
    last; below: to the next row, 0 in the last."""

    right: Array
    below: Array


class _Grid(NamedTuple):
    """A system with ones in its diagonal: scaled by 1 / √diagonal from both sides, and flat."""

    right: Array
    below: Array
    root: Array  # √diagonal
    scale: Array  # its inverse
    product: Array  # space for one product
    columns: int


def pyramid(links: Links, levels: int = LEVELS) -> list[Links]:
    """Conductances of all grids, the finest first. Its sides must be multiples of
    2 ** (levels - 1)."""
    grids = [links]
    for _ in range(levels - 1):
        right, below = grids[-1]
        grids.append(Links((right[::2, 1::2] + right[1::2, 1::2]) * COARSENING,
                           (below[1::2, ::2] + below[1::2, 1::2]) * COARSENING))
    return grids


def halved(values: Array) -> Array:
    """Sums of 2×2 values each."""
    rows, columns = values.shape
    sums: Array = cv2.resize(values, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    sums *= np.float32(4)
    return sums


def solve(grids: list[Links], precision: Array, information: Array, start: Array | None,
          iterations: int) -> Array:
    """The solution, nearly: float32 rows×columns.

    Args:
        grids: of :func:`pyramid`, or its last ones.
        precision: float32 rows×columns, at least 0, somewhere above.
        information: float32 rows×columns.
        start: where to begin, or None: 0.
        iterations: of conjugate gradients.
    """
    scaled, inverse = _scaled(grids, precision)
    finest = scaled[0]
    right_side = information.ravel() * finest.scale
    if start is None:
        solution = np.zeros_like(right_side)
        residual = right_side.copy()
    else:
        solution = start.ravel() * finest.root
        residual = _residual(finest, right_side, solution)
    direction, last = None, 1.0
    for _ in range(iterations):
        step = _cycle(scaled, inverse, residual)
        energy = float(residual @ step)
        if not energy > 1e-20:  # solved
            break
        if direction is None:
            direction = step
        else:
            direction *= np.float32(energy / last)
            direction += step
        last = energy
        image = _residual(finest, np.zeros_like(direction), direction)  # minus its product
        length = np.float32(energy / -float(direction @ image))
        solution += length * direction
        image *= length
        residual += image
    solution *= finest.scale
    return solution.reshape(precision.shape)


def _scaled(grids: list[Links], precision: Array) -> tuple[list[_Grid], Array]:
    """The scaled systems, and the inverse of the coarsest."""
    scaled = []
    for links in grids:
        diagonal = precision + links.right
        diagonal += links.below
        diagonal[:, 1:] += links.right[:, :-1]
        diagonal[1:] += links.below[:-1]
        diagonal += np.float32(1e-6)
        columns = diagonal.shape[1]
        root = np.sqrt(diagonal).ravel()
        scale = 1 / root
        right, below = links.right.ravel() * scale, links.below.ravel() * scale
        right[:-1] *= scale[1:]
        below[:-columns] *= scale[columns:]
        scaled.append(_Grid(right[:-1], below[:-columns], root, scale, np.empty_like(scale),
                            columns))
        if len(scaled) < len(grids):
            precision = halved(precision)
    last = scaled[-1]
    matrix = np.eye(last.scale.size, dtype=np.float32)
    nodes = np.arange(last.scale.size)
    for away, values in ((1, last.right), (last.columns, last.below)):
        matrix[nodes[:-away], nodes[away:]] -= values
        matrix[nodes[away:], nodes[:-away]] -= values
    return scaled, np.linalg.inv(matrix)


def _residual(grid: _Grid, right_side: Array, solution: Array) -> Array:
    """right_side − A solution."""
    residual = right_side - solution
    for away, values in ((1, grid.right), (grid.columns, grid.below)):
        product = grid.product[:-away]
        np.multiply(values, solution[away:], out=product)
        residual[:-away] += product
        np.multiply(values, solution[:-away], out=product)
        residual[away:] += product
    return residual


def _cycle(grids: list[_Grid], inverse: Array, right_side: Array) -> Array:
    """One symmetric V-cycle: nearly A⁻¹ right_side."""
    if len(grids) == 1:
        return inverse @ right_side
    fine, coarse = grids[:2]
    solution = right_side * _DAMPING
    residual = _residual(fine, right_side, solution)
    residual *= fine.root
    shape = -1, fine.columns
    below = _cycle(grids[1:], inverse, halved(residual.reshape(shape)).ravel() * coarse.scale)
    below *= coarse.scale
    rows = fine.scale.size // fine.columns
    correction = cv2.resize(below.reshape(-1, coarse.columns), (fine.columns, rows),
                            interpolation=cv2.INTER_NEAREST).ravel()
    correction *= fine.root
    solution += correction
    residual = _residual(fine, right_side, solution)
    residual *= _DAMPING
    solution += residual
    return solution
