"""Bars and frames around an image are found; walls and dark rooms are none."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.benchmark.stages import room_image
from hybrid_depth_ros.border import (
    CHECK_INTERVAL,
    DECISIVE_FRAMES,
    Border,
    BorderTracker,
    find_border,
)


@pytest.fixture(scope='module')
def room():
    return room_image(320, 240)[0]


def framed(rgb, border, colour=0):
    return cv2.copyMakeBorder(rgb, *border, cv2.BORDER_CONSTANT, value=(colour,) * 3)


def noisy(level, seed=0, sigma=2.0):
    noise = np.random.default_rng(seed).normal(level, sigma, (240, 320, 3))
    return np.rint(noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('colour', [0, 16, 190, 255])
@pytest.mark.parametrize('border', [
    Border(40, 40, 0, 0), Border(0, 0, 90, 90), Border(5, 5, 6, 7),
    Border(30, 31, 0, 0)])
def test_bars_and_frames_are_found(room, border, colour):
    assert find_border(framed(room, border, colour)) == border


def test_black_bars_on_all_sides_and_jpeg(room):
    border = Border(30, 30, 40, 40)
    assert find_border(framed(room, border)) == border
    packed = cv2.imencode('.jpg', framed(room, border, 255)[20:-20], [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert not any(find_border(cv2.imdecode(packed[1], 1)))  # a wide white frame: a wall
    packed = cv2.imencode('.jpg', framed(room, (5, 5, 6, 7), 250), [cv2.IMWRITE_JPEG_QUALITY, 70])
    found = find_border(cv2.imdecode(packed[1], 1))
    assert np.abs(np.subtract(found, (5, 5, 6, 7))).max() <= 1


def test_walls_and_dark_rooms_are_no_border(room):
    """What fills the view, what hangs on a wall, what is dark or blown out."""
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    picture = noisy(250)
    picture[60:180, 80:240] = room[60:180, 80:240]
    lamp = noisy(3)
    lamp[np.hypot(x - 160, y - 120) < 70] = 240
    cupboard = noisy(252)
    cupboard[90:, 60:200] = 90
    door = noisy(2)
    door[70:, 110:210] = 200
    ceiling = room.copy()
    ceiling[:50] = 255  # a straight edge, on one side
    unequal = framed(room, (60, 20, 0, 0))
    for image in (room, picture, lamp, cupboard, door, ceiling, unequal, noisy(255), noisy(0),
                  np.zeros_like(room), np.full_like(room, 255), np.full_like(room, 114)):
        assert not any(find_border(image))
    for gain in (0.03, 0.1, 0.3, 3, 10):
        assert not any(find_border((room * gain).clip(0, 255).astype(np.uint8)))


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (50, 1), (2, 2), (5, 7)])
def test_tiny_images_have_none(size):
    assert not any(find_border(np.zeros((*size, 3), np.uint8)))


def test_the_scene_is_cropped_and_padded_back(room):
    border = Border(5, 4, 3, 2)
    image = framed(room, border, 255)
    assert np.array_equal(border.crop(image), room)
    padded = border.pad(np.ones(room.shape[:2], np.float32))
    assert padded.shape == image.shape[:2] and padded.dtype == np.float32
    assert np.isfinite(border.crop(padded)).all()
    assert np.isnan(padded).sum() == padded.size - room[..., 0].size
    assert Border().pad(padded) is padded


def test_a_camera_s_border_changes_only_where_several_frames_say_so(room):
    tracker, bars = BorderTracker(), Border(40, 40, 0, 0)
    image = framed(room, bars)
    counts = [tracker.update(image) for _ in range(DECISIVE_FRAMES + 1)]
    assert counts == [Border()] * (DECISIVE_FRAMES - 1) + [bars] * 2
    night = framed((room * 0.05).astype(np.uint8), bars)
    assert find_border(night) != bars
    assert [tracker.update(night) for _ in range(9)] == [bars] * 9  # as dark as the bars
    # what is found at other places each time undoes nothing, nor do a few odd frames
    odd = [framed(room, (20 + 9 * i, 20 + 9 * i, 0, 0)) for i in range(3)]
    for i in range(20):
        other = image if i % 7 == 0 else odd[i % 3]
        assert tracker.update(cv2.resize(other, image.shape[1::-1])) == bars
    for _ in range(CHECK_INTERVAL):
        tracker.update(image)
    full = cv2.resize(room, image.shape[1::-1])
    counts = [tracker.update(full) for _ in range(DECISIVE_FRAMES + CHECK_INTERVAL)]
    assert counts[:DECISIVE_FRAMES - 1] == [bars] * (DECISIVE_FRAMES - 1)
    assert counts[-1] == Border()
    tracker.update(room)
    assert tracker.update(room) == Border()  # another size is another view
