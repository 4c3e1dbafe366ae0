"""Depth enlarged along the picture's outlines."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.metrics import OutlineScores
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.upsampling import upsample


def scene(width=320, height=240):
    """A near dark thing before a far bright wall: picture, depth."""
    thing = np.zeros((height, width), bool)
    thing[height // 4:, width // 3:width // 2] = True
    grey = np.where(thing, 60, 180).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2), np.where(thing, 1.5, 3.0).astype(np.float32)


def blurred(depth, pixels=6):
    """As a network sees it: at a quarter of the size, outlines over many pixels."""
    small = cv2.resize(depth, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), pixels / 4)


def test_outlines_become_the_pictures():
    picture, truth = scene()
    seen = blurred(truth)
    scores = {}
    for name, guide in (('bilinear', None), ('guided', picture)):
        depth = upsample(seen, 320, 240, guide)
        assert depth.shape == truth.shape and depth.dtype == np.float32
        scores[name] = OutlineScores()
        scores[name].add(depth, truth)
    found = {name: score.report()['found'] for name, score in scores.items()}
    assert found['bilinear'] < 0.1 and found['guided'] > 0.9
    assert scores['guided'].report()['right'] > 0.9


def test_a_pattern_on_an_even_wall_does_not_show_in_depth():
    picture, _ = scene()
    tilted = np.linspace(1, 3, 80, dtype=np.float32) * np.ones((60, 1), np.float32)
    depth = upsample(tilted, 320, 240, picture)
    np.testing.assert_allclose(depth, cv2.resize(tilted, (320, 240)), rtol=0.05)


def test_the_networks_grid_goes():
    grid = (2 + 0.1 * (np.indices((60, 80)).sum(0) % 2)).astype(np.float32)
    even = np.full((240, 320, 3), 128, np.uint8)
    assert upsample(grid, 320, 240).std() > 0.01
    assert upsample(grid, 320, 240, even).std() < 0.002


@pytest.mark.parametrize('shape', [(1, 1), (3, 200), (7, 5)])
def test_odd_sizes_and_bounds(shape):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0, 9, shape).astype(np.float32)
    picture = rng.integers(0, 256, (33, 47, 3), np.uint8).astype(np.uint8)
    enlarged = upsample(depth, 47, 33, picture)
    assert enlarged.shape == (33, 47)
    assert depth.min() <= enlarged.min() and enlarged.max() <= depth.max()


def test_the_predictor_sharpens_unless_told_not_to():
    from hybrid_depth_ros.sources import RoomSource
    from hybrid_depth_ros.virtual_room import Room
    camera = RoomSource(640, 480).intrinsics
    views = [Room(0).render(camera, Room(0).camera_pose(seconds)) for seconds in (2, 20, 31)]
    found = {}
    for sharpen in (False, True):
        scores, predictor = OutlineScores(), DepthPredictor('lite-nyu', sharpen=sharpen)
        for rgb, truth in views:
            # the true depth, as soft as a network's: weights that see sharply leave less to do
            predictor.runtime = lambda batch, truth=truth: [cv2.GaussianBlur(cv2.resize(
                truth, (batch.shape[2] // 2, batch.shape[1] // 2)), (0, 0), 1.5)]
            scores.add(predictor(rgb), truth)
        found[sharpen] = scores.report()['found']
    assert found[False] < 0.05 and found[True] > 0.2
