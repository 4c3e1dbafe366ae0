"""Augmentation: geometry, colours, what counts as depth."""

import cv2
import numpy as np
import pytest
from rgbd_files import CX, CY, FX, FY, plane_depth

from train.augment import (
    CROP_HEIGHT,
    CROP_WIDTH,
    NETWORK_WIDTH,
    augment,
    colour_statistics,
    paste_window,
    transfer_colours,
)
from train.configuration import AugmentationConfig


class Fixed:
    """A random generator that says what the test wants."""

    def __init__(self, scale, degrees=0.0, mirrored=False):
        self.answers, self.mirrored = [scale, degrees], mirrored

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None:
            return np.ones(size)
        return self.answers.pop(0) if self.answers else (low + high) / 2

    def random(self):
        return 0.0 if self.mirrored else 1.0


@pytest.mark.parametrize('scale', [1.0, 1.3, 1.5])
@pytest.mark.parametrize('mirrored', [False, True])
def test_augmentation_keeps_geometry(scale, mirrored):
    depth, normal, distance = plane_depth()
    *_, target = augment(np.zeros((480, 640, 3), np.uint8), depth, Fixed(scale, 0.0, mirrored))
    assert target.shape == (CROP_HEIGHT // 2, CROP_WIDTH // 2)
    # An image zoomed by s is of a camera of the same focal length, s times nearer: with depth
    # z/s the plane keeps its normal and comes s times nearer, where x and y are measured
    # through the unzoomed camera's focal length.
    zoom = scale * NETWORK_WIDTH / 640
    rows, columns = np.mgrid[:target.shape[0], :target.shape[1]]
    sign = -1 if mirrored else 1
    u = 319.5 + sign * (columns - (target.shape[1] - 1) / 2) * 2 / zoom
    v = 239.5 + (rows - (target.shape[0] - 1) / 2) * 2 / zoom
    focal_x, focal_y = FX * NETWORK_WIDTH / 640, FY * NETWORK_WIDTH / 640
    points = np.stack([(u - CX) * zoom / focal_x * target, (v - CY) * zoom / focal_y * target,
                       target * scale], axis=-1)
    # z·s through focal length f is z through s·f: back on the plane
    residual = points @ normal - distance
    assert np.abs(residual[1:-1, 1:-1]).max() < 0.02  # nearest neighbour: half a pixel
    assert np.abs(residual).mean() < 0.006


class Tilted(Fixed):
    def uniform(self, low=0.0, high=1.0, size=None):
        return np.array([5.0, -4.0]) if size == 2 else super().uniform(low, high, size)


@pytest.mark.parametrize('scale', [1.0, 1.3])
def test_a_tilted_camera_sees_the_same_plane(scale):
    normal, distance = np.array([0.3, -0.2, 0.9]), 3.0
    y, x = np.mgrid[:480, :640]
    rays = np.stack([(x - 319.5) / FX, (y - 239.5) / FX, np.ones_like(x)], axis=-1)
    depth = (distance / (rays @ normal)).astype(np.float32)
    *_, target = augment(np.zeros((480, 640, 3), np.uint8), depth, Tilted(scale, 0.0),
                         AugmentationConfig(tilt=7.0))
    rows, columns = np.mgrid[:target.shape[0], :target.shape[1]]
    step = 2 / (scale * NETWORK_WIDTH / 640) / FX
    rays = np.stack([(columns - (target.shape[1] - 1) / 2) * step,
                     (rows - (target.shape[0] - 1) / 2) * step, np.ones_like(rows)], axis=-1)
    up, side = np.deg2rad([5.0, -4.0])
    turn = (np.array([[1, 0, 0], [0, np.cos(up), -np.sin(up)], [0, np.sin(up), np.cos(up)]])
            @ np.array([[np.cos(side), 0, np.sin(side)], [0, 1, 0],
                        [-np.sin(side), 0, np.cos(side)]]))
    points = rays * (target * scale)[..., None] @ turn.T
    seen = target > 0
    assert seen.mean() > 0.8
    assert np.abs(points @ normal - distance)[seen].max() < 0.003


@pytest.mark.parametrize(('focal', 'tilt', 'metres'), [(0.1, 70.0, 3.0), (0.02, 20.0, 3.0),
                                                        (0.8, 10.0, 1000.0)])
def test_no_depth_is_endless(focal, tilt, metres):
    """Depths of 1000 m counted as valid: a wide lens that is tilted, or the wrong unit."""
    rgb, depth = np.zeros((240, 320, 3), np.uint8), np.full((240, 320), metres, np.float32)
    made = [augment(rgb, depth, np.random.default_rng(seed), AugmentationConfig(tilt=tilt),
                    focal=focal).depth
            for seed in range(40)]
    assert np.isfinite(made).all()
    assert 0 <= np.min(made) <= np.max(made) <= 100
    assert (np.max(made) > 0) == (metres < 100)


def test_the_camera_looks_at_what_is_cut_out():
    """Seen from its centre, a sphere is the same wherever a camera looks."""
    focal, scale = 0.8, 1.6  # 240 pixels across allow no other cut-out
    y, x = np.mgrid[:180, :240] - np.array([89.5, 119.5])[:, None, None]
    depth = (3 / np.sqrt(1 + (x ** 2 + y ** 2) / (focal * 240) ** 2)).astype(np.float32)
    rows, columns = np.mgrid[:CROP_HEIGHT // 2, :CROP_WIDTH // 2] - np.array(
        [CROP_HEIGHT / 4 - 0.5, CROP_WIDTH / 4 - 0.5])[:, None, None]
    step = 2 / (focal * NETWORK_WIDTH * scale)
    expected = 3 / scale / np.sqrt(1 + (rows ** 2 + columns ** 2) * step ** 2)
    coloured = np.dstack([np.uint8(x + 120), np.uint8(y + 90), np.zeros_like(x, np.uint8)])
    looked_at = []
    for seed in range(8):
        image, _, target = augment(coloured, depth, np.random.default_rng(seed), AugmentationConfig(
            scale=(0.9, scale), rotation=5.0, flip=0.5, colour=(1, 1), cutout=1.0), focal=focal)
        assert (target > 0).mean() > 0.7
        np.testing.assert_allclose(target[target > 0], expected[target > 0], rtol=0.01)
        looked_at.append(image[CROP_HEIGHT // 2, CROP_WIDTH // 2, :2])
    assert np.ptp(looked_at, axis=0).min() > 20  # all over the image


def test_a_lower_resolution_is_less_sharp_and_as_bright():
    rng = np.random.default_rng(0)
    rgb, depth = rng.integers(0, 256, (264, 352, 3), np.uint8), np.ones((264, 352), np.float32)
    sharp, coarse = (np.mean([augment(rgb, depth, np.random.default_rng(seed), AugmentationConfig(
        scale=(1.0, 1.0), rotation=0.0, flip=0.0, colour=(1, 1), coarse=coarse)).rgb
        for seed in range(5)], axis=0) for coarse in (0.0, 1.0))
    assert coarse.mean() == pytest.approx(sharp.mean(), abs=2)
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.8 * np.abs(np.diff(sharp, axis=1)).mean()


def test_erasing_hides_colour_and_asks_for_depth():
    rgb, depth = np.full((480, 640, 3), 100, np.uint8), np.full((480, 640), 2.0, np.float32)
    shares = []
    for seed in range(20):
        image, _, target = augment(rgb, depth, np.random.default_rng(seed), AugmentationConfig(
            scale=(1.0, 1.0), rotation=0.0, colour=(1, 1), erase=1.0))
        assert (target == 2).all()
        shares.append((image != 100).any(axis=2).mean())
    assert min(shares) >= 0.01 and 0.08 < max(shares) <= 0.16


def test_a_pasted_window_keeps_its_place_and_depth():
    rng = np.random.default_rng(3)
    rgb, depth = paste_window(
        np.zeros((256, 320, 3), np.uint8), np.ones((128, 160), np.float32),
        np.ones((256, 320, 3), np.uint8), np.full((128, 160), 5, np.float32), rng)
    pasted = depth == 5
    share = [pasted.any(axis).mean() for axis in (1, 0)]
    assert all(0.19 < part <= 0.5 for part in share) and pasted.sum() == np.prod(
        [pasted.any(axis).sum() for axis in (1, 0)])
    assert np.array_equal(rgb, np.repeat(np.repeat(pasted, 2, 0), 2, 1)[..., None] * np.ones(3))


def test_an_image_takes_on_the_colours_of_another():
    rng = np.random.default_rng(0)
    image = np.uint8(np.clip(rng.normal((90, 120, 150), 20, (64, 80, 3)), 0, 255))
    other = np.uint8(np.clip(rng.normal((170, 140, 100), 30, (48, 60, 3)), 0, 255))
    same = transfer_colours(image, colour_statistics(other), 0)
    assert np.abs(same.astype(int) - image).mean() < 1
    dressed = transfer_colours(image, colour_statistics(other), 1)
    assert np.allclose(dressed.mean((0, 1)), other.mean((0, 1)), atol=4)
    lab = [cv2.cvtColor(one, cv2.COLOR_RGB2LAB).std((0, 1)) for one in (image, other, dressed)]
    assert np.allclose(lab[2], lab[1], rtol=0.15) and not np.allclose(lab[0], lab[1], rtol=0.15)
    flat = np.full((8, 8, 3), 100, np.uint8)
    # no spread, nothing to blow up
    assert np.ptp(transfer_colours(flat, colour_statistics(other), 1), (0, 1)).max() == 0


def test_augmentation_masks_what_is_not_scene():
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), 2.0, np.float32)
    rgb = np.full((480, 640, 3), 255, np.uint8)
    rgb[10:-10, 10:-10] = 100  # a white frame
    for _ in range(20):
        image, _, target = augment(rgb, depth, rng, AugmentationConfig(
            border=10, scale=(0.8, 0.8), colour=(1, 1)))
        assert np.allclose(image, 100, atol=2)
        assert set(np.unique(target)) <= {np.float32(0), np.float32(2 / 0.8)}
        assert (target == 0).any()


def test_rotation_turns_colour_and_depth_together():
    yy, xx = np.mgrid[:480, :640]
    value = (((xx // 40) + (yy // 40)) % 2).astype(np.float32)
    rgb = np.repeat((value * 255).astype(np.uint8)[..., None], 3, axis=2)
    rng = np.random.default_rng(3)
    for _ in range(10):
        image, _, target = augment(rgb, value + 1, rng, AugmentationConfig(
            colour=(1, 1), rotation=5.0))
        small = cv2.resize(image[..., 0] / 255, (160, 128), interpolation=cv2.INTER_AREA)
        sure = (np.abs(small - 0.5) > 0.45) & (target > 0)
        bright = target > np.median(np.unique(target[target > 0]))
        assert (bright[sure] == (small[sure] > 0.5)).mean() > 0.99


@pytest.mark.parametrize(('nearest', 'invents'), [(True, False), (False, True)])
def test_nearest_neighbour_invents_no_colour(nearest, invents):
    palette = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
    rgb = palette[np.random.default_rng(0).integers(0, 3, (264, 352))]
    image = augment(rgb, np.ones((264, 352), np.float32), np.random.default_rng(5),
                    AugmentationConfig(scale=(1.3, 1.3), colour=(1, 1), nearest=nearest)).rgb
    colours = np.unique(image.reshape(-1, 3), axis=0)
    assert (len(colours) > 1000) == invents
    assert (len(colours) == 3) != invents
