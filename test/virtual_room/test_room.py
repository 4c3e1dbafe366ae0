"""The virtual room: exact depth, the same for one seed, a walk that stays clear."""

import numpy as np
import pytest

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import EYE_HEIGHT, WALK_SECONDS, Room
from hybrid_depth_ros.virtual_room.shapes import Box, Cylinder, Sphere

CAMERA = Intrinsics.from_horizontal_fov(160, 120, 63.3)


@pytest.fixture(scope='module')
def room():
    return Room(3)


def world_points(depth, pose, camera=CAMERA):
    """3×H×W metres, from z-depth, by the pinhole model."""
    v, u = np.mgrid[:camera.height, :camera.width]
    rays = np.stack(((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)))
    return np.einsum('ij,jhw->ihw', pose[:3, :3], rays * depth) + pose[:3, 3, None, None]


def test_a_seed_is_a_room(room):
    pose = room.camera_pose(4.0)
    rgb, depth = room.render(CAMERA, pose)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (120, 160, 3))
    assert (depth.dtype, depth.shape) == (np.float32, (120, 160))
    again = Room(3).render(CAMERA, pose)
    assert np.array_equal(rgb, again[0])
    assert np.array_equal(depth, again[1])
    other = Room(4)
    assert not np.allclose(other.render(CAMERA, pose)[1], depth, atol=0.05)


def test_every_ray_ends_inside_the_room(room):
    for seconds in np.arange(0, WALK_SECONDS, 5):
        pose = room.camera_pose(seconds)
        _, depth = room.render(CAMERA, pose)
        points = world_points(depth, pose).reshape(3, -1)
        assert (points > -1e-4).all()
        assert (points < room.size[:, None] + 1e-4).all()
        assert depth.min() > 0.4
        assert depth.max() < 8
        assert depth.max() - depth.min() > 0.5


@pytest.mark.parametrize('thing', [
    Box((0.6, 2.0, 1.2), (0.8, 0.5, 0.6), None, yaw=0.7),
    Cylinder((0.9, 2.0, 1.2), 0.35, 0.7, None),
    Sphere((0.9, 2.1, 1.3), 0.4, None)], ids=lambda thing: type(thing).__name__)
def test_hits_lie_on_the_surface(thing, room):
    pose = np.eye(4)
    pose[:3, 3] = (3.2, 2.0, 1.5)
    forward = np.array(thing.centre) - pose[:3, 3]
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    pose[:3, :3] = np.column_stack((right, np.cross(forward, right), forward))
    v, u = np.mgrid[:120, :160]
    rays = np.stack(((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)))
    rays = np.einsum('ij,jhw->ihw', pose[:3, :3], rays)
    distance = thing.hit(pose[:3, 3], list(rays.astype(np.float32)))
    hit = np.isfinite(distance)
    assert 0.02 < hit.mean() < 0.6
    points = world_points(np.where(hit, distance, 0), pose)[:, hit] - thing.centre[:, None]
    if isinstance(thing, Sphere):
        off = np.linalg.norm(points, axis=0) - thing.radius
    elif isinstance(thing, Cylinder):
        off = np.maximum(np.hypot(*points[:2]) - thing.radius, np.abs(points[2]) - 0.35)
    else:
        c, s = np.cos(0.7), np.sin(0.7)
        local = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ points
        off = (np.abs(local) - np.array([[0.4], [0.25], [0.3]])).max(0)
    assert np.abs(off).max() < 1e-5
    # what is hit first is the side that looks at the camera
    _, _, normals = thing.surface(points + thing.centre[:, None])
    towards = pose[:3, 3, None] - points - thing.centre[:, None]
    assert ((normals * towards).sum(0) > -1e-4).all()
    assert np.linalg.norm(normals, axis=0) == pytest.approx(1, abs=1e-3)


def test_two_views_agree(room):
    """What one camera sees at a place, another sees there too, or something nearer."""
    first, second = room.camera_pose(10.0), room.camera_pose(11.0)
    rgb_a, depth_a = room.render(CAMERA, first)
    rgb_b, depth_b = room.render(CAMERA, second)
    points = world_points(depth_a, first).reshape(3, -1)
    x, y, z = second[:3, :3].T @ (points - second[:3, 3, None])
    u = np.round(CAMERA.fx * x / z + CAMERA.cx).astype(int)
    v = np.round(CAMERA.fy * y / z + CAMERA.cy).astype(int)
    seen = (z > 0) & (u >= 0) & (u < 160) & (v >= 0) & (v < 120)
    assert seen.mean() > 0.6
    difference = depth_b[v[seen], u[seen]] - z[seen]
    assert np.mean(np.abs(difference) < 0.03) > 0.85
    assert np.mean(difference > 0.1) < 0.02
    same = np.abs(difference) < 0.01
    colours_a = rgb_a.reshape(-1, 3)[seen][same].astype(int)
    colours_b = rgb_b[v[seen], u[seen]][same].astype(int)
    assert np.median(np.abs(colours_a - colours_b)) < 8
    shuffled = np.random.default_rng(0).permutation(colours_b)
    assert np.median(np.abs(colours_a - shuffled)) > 16


def test_depth_does_not_depend_on_resolution(room):
    pose = room.camera_pose(20.0)
    coarse = room.render(CAMERA, pose)[1]
    # pixel (i, j) of the fine camera is where (i/4, j/4) of the coarse one is
    fine = room.render(Intrinsics(640, 480, 4 * CAMERA.fx, 4 * CAMERA.fy, 4 * CAMERA.cx,
                                  4 * CAMERA.cy), pose)[1]
    assert fine[::4, ::4] == pytest.approx(coarse, abs=1e-4)


@pytest.mark.parametrize('seed', range(6))
def test_the_walk_is_closed_and_clear_of_furniture(seed):
    room = Room(seed)
    poses = [room.camera_pose(t) for t in np.arange(0, WALK_SECONDS, 0.5)]
    assert room.camera_pose(WALK_SECONDS) == pytest.approx(room.camera_pose(0), abs=1e-9)
    for pose, following in zip(poses, poses[1:] + poses[:1], strict=True):
        assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        assert pose[2, 1] < -0.9  # the optical frame's y looks down
        assert np.linalg.norm(pose[:3, 3] - following[:3, 3]) < 0.25
        assert np.trace(pose[:3, :3].T @ following[:3, :3]) > 1 + 2 * np.cos(0.2)
        assert abs(pose[2, 3] - EYE_HEIGHT) < 0.1
        for thing in room.objects:
            low, high = thing.corners.min(0), thing.corners.max(0)
            outside = np.maximum(np.maximum(low - pose[:3, 3], pose[:3, 3] - high), 0)
            assert np.linalg.norm(outside) > 0.2
