"""Outlines: where depth jumps, and to which side its pixels move."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.outlines import depth_edges, snap_edges

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)


def bleeding_edge(near=2.0, far=4.0):
    """A box before a wall as a network sees it: blurred, 176 wide, enlarged."""
    depth = np.full((132, 176), far, np.float32)
    depth[40:100, 50:120] = near
    return cv2.resize(cv2.GaussianBlur(depth, (0, 0), 2), (640, 480))


def test_points_in_the_air_behind_a_bleeding_edge_go():
    depth = bleeding_edge()
    hanging = (depth > 2 * 1.1) & (depth < 4 * 0.9)
    assert hanging.sum() > 14000
    steepest = np.abs(np.diff(depth, axis=1) / depth[:, 1:]).max()
    assert steepest < 0.1  # between direct neighbours there is no such jump
    edges = depth_edges(depth, 0.1)
    assert edges[hanging].all()
    assert edges[~hanging].mean() < 0.06
    middle = np.s_[170:340, 205:410]  # well inside of the box
    assert not edges[middle].any() and not edges[:100].any() and not edges[:, :140].any()


def test_pixels_on_a_bleeding_edge_move_to_one_of_its_sides():
    depth = bleeding_edge()
    snapped = snap_edges(depth, 0.1)
    known, edges = np.isfinite(snapped), depth_edges(depth, 0.1)
    in_air = (snapped > 2 * 1.1) & (snapped < 4 * 0.9)
    assert in_air.sum() < 0.05 * edges.sum()  # at the box's corners
    np.testing.assert_array_equal(snapped[~edges], depth[~edges])
    near = cv2.resize(np.pad(np.ones((60, 70)), ((40, 32), (50, 56))), (640, 480),
                      interpolation=cv2.INTER_NEAREST) > 0
    assert (snapped[near] < 2.2).mean() > 0.93  # the box is nearly whole
    assert (snapped[known & ~near] < 2.2).sum() < 0.01 * near.sum()  # and no larger


def test_a_thin_pole_that_bleeds_is_kept():
    depth = np.full((132, 176), 3.0, np.float32)
    depth[:, 80:83] = 1.5
    depth = cv2.resize(cv2.GaussianBlur(depth, (0, 0), 1), (640, 480))
    snapped = snap_edges(depth, 0.1)
    pole = snapped[:, 294:300]
    assert np.isfinite(pole).all() and (pole < 2).all()
    assert (np.isnan(snapped) | (snapped < 2) | (snapped > 2.7)).all()


def test_a_slanted_surface_is_not_moved_forward():
    inverse = np.interp(np.arange(176), (20, 90), (1, 1 / 3)).astype(np.float32)
    inverse[90:] = 1 / 6  # a wall behind the end of a surface that recedes from 1 m to 3 m
    depth = cv2.resize(cv2.GaussianBlur(np.tile(1 / inverse, (132, 1)), (0, 0), 1.5), (640, 480))
    snapped = snap_edges(depth, 0.1)[:, 290:350]
    moved = snapped < depth[:, 290:350] * 0.99
    assert moved.any()
    assert snapped[moved].min() > 2.6  # the nearest pixel within reach has 2.1 m


def test_the_floor_beside_an_object_is_not_lifted():
    rows = np.arange(132)[:, None] - 60.0  # below the horizon
    height, focal = 0.35, 151
    floor = np.maximum(rows / (focal * height), 1 / 5) * np.ones((1, 176))  # and a wall at 5 m
    inverse = floor.copy()
    inverse[40:int(60 + focal * height / 1.5), 80:110] = 1 / 1.5
    depth = cv2.resize(cv2.GaussianBlur(
        (1 / inverse).astype(np.float32), (0, 0), 2), (640, 480))
    of_floor = cv2.resize(((inverse == floor) & (rows > 12)).astype(np.float32), (640, 480)) > 0.99
    above = height - snap_edges(depth, 0.05) * (np.arange(480)[:, None] * 132 / 480 - 60) / focal
    assert (above[of_floor] > 0.1).sum() < 200  # pixels; moved to the floor before them: 800


def test_snapping_leaves_what_is_unknown_and_what_is_flat():
    depth = np.full((480, 640), 2, np.float32)
    depth[:, 300:] = 4
    depth[:, :200] = np.nan
    depth[:, 500:520] = 0
    with np.errstate(all='raise'):
        snapped = snap_edges(depth, 0.1)
    np.testing.assert_array_equal(np.isnan(snapped[:, :200]), True)
    np.testing.assert_array_equal(snapped[:, 200:], depth[:, 200:])  # a sharp step is one already
    for shape in ((1, 1), (2, 640), (480, 1)):
        np.testing.assert_array_equal(snap_edges(np.ones(shape, np.float32), 0.1), 1)


@pytest.mark.parametrize(('width', 'height'), ((752, 480), (846, 483), (1919, 1079), (457, 123)))
def test_an_image_of_any_size_is_snapped_up_to_its_sides(width, height):
    """Pixels that the grid does not divide are left in the air, or others move in their place."""
    depth = cv2.resize(bleeding_edge()[:, 120:], (width, height))  # the box reaches the left side
    depth[-height // 20:] = depth[height // 3]                     # and the bottom
    snapped, edges = snap_edges(depth, 0.1), depth_edges(depth, 0.1)
    np.testing.assert_array_equal(snapped[~edges], depth[~edges])
    assert edges[-1].any() and (snapped[edges] != depth[edges]).mean() > 0.65
    assert ((snapped[edges] < 2 * 1.1) | (snapped[edges] > 4 * 0.9)).mean() > 0.9


@pytest.mark.parametrize(('width', 'height', 'reach'), (
    (640, 480, 4), (752, 480, 5), (846, 483, 5), (1919, 1079, 12), (97, 33, 1)))
def test_a_jump_lies_in_the_middle_of_its_edge(width, height, reach):
    for place in range(width // 2, width // 2 + reach):
        depth = np.full((height, width), 2, np.float32)
        depth[:, place:] = 4
        row = np.flatnonzero(depth_edges(depth, 0.1).all(0))
        assert row.tolist() == list(range(row[0], row[-1] + 1)) and len(row) == 2 * reach
        assert abs(row.mean() - (place - 0.5)) <= reach / 2
        across = depth_edges(np.ascontiguousarray(depth.T), 0.1)
        assert across.shape == (width, height) and across.any()


def test_a_floor_at_a_grazing_angle_survives():
    row = np.arange(480)[:, None]  # the horizon is 20 rows above the image, the camera 0.3 m high
    depth = np.repeat(0.3 * CAMERA.fy / (row + 20), 640, axis=1).astype(np.float32)
    assert depth[0, 0] > 7  # m, and seen at an angle of 2 degrees
    assert depth[0, 0] / depth[8, 0] > 1.3  # what would be a jump elsewhere
    assert not depth_edges(depth, 0.1).any()
    slanted_wall = 1 / (0.1 + 0.002 * np.arange(640) + 0.0005 * row)
    assert not depth_edges(slanted_wall.astype(np.float32), 0.05).any()
    box = depth.copy()
    box[:200, 300:340] = depth[200, 0]  # and what stands on it has edges, but not its foot
    edges = depth_edges(box, 0.1)
    assert edges[:100, 299:301].all() and edges[:100, 339:341].all()
    assert not edges[230:].any() and not edges[:, :280].any()


def test_what_is_not_known_is_no_jump():
    depth = np.full((480, 640), 2, np.float32)
    depth[:, :200] = np.nan
    depth[200:220, 300:320] = 0
    depth[300:, 600:] = -1
    with np.errstate(all='raise'):
        assert not depth_edges(depth, 0.1).any()
        assert not depth_edges(np.full((480, 640), np.nan, np.float32), 0.1).any()
    depth[:, 400:] = 3  # but beside it there may be one
    edges = depth_edges(depth, 0.1)
    assert edges[:, 398:402].all() and not edges[:, :390].any() and not edges[:, 410:].any()
    for shape in ((1, 1), (2, 640), (480, 1)):
        assert not depth_edges(np.ones(shape, np.float32), 0.1).any()


def test_a_ledge_behind_an_object_does_not_become_the_object():
    """A narrow surface between an object and its background took the object's depth as a whole."""
    depth = np.full((480, 640), 2.8, np.float32)
    depth[:, :268] = 1.3
    depth[:, :240] = 0.9
    taken = snap_edges(cv2.GaussianBlur(depth, (0, 0), 3), 0.05) < 1.0
    assert taken[:, :240].all() and not taken[:, 250:].any()


def test_a_pixel_of_unknown_depth_on_a_jump_stays_unknown():
    """The other pixels of its place on the grid gave it the near side's depth."""
    depth = bleeding_edge()
    unknown = depth_edges(depth, 0.1) & (np.random.default_rng(0).random(depth.shape) < 0.2)
    depth[unknown] = np.nan
    assert unknown.sum() > 1000 and np.isnan(snap_edges(depth, 0.1)[unknown]).all()
