"""From what sensors say to anchors: scans, clouds, ranges."""

import numpy as np
import pytest
from sensor_messages import cloud, scan, sonar

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.anchors.sensors import (
    cloud_points,
    limited_by_prior,
    looks_beside,
    project,
    range_anchors,
    scan_points,
)
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT, organised_cloud
from hybrid_depth_ros.poses import pose_from_angles
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
OPTICAL = pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # of a camera in its body frame
NAN, INF = float('nan'), float('inf')


def test_a_scan_becomes_points_and_leaves_out_what_was_not_measured():
    points = scan_points(scan([1, 2, INF, NAN, 0.05, 9, -INF, 3]))
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, [
        [np.cos(-0.5), 2, 3 * np.cos(3.0)], [np.sin(-0.5), 0, 3 * np.sin(3.0)], [0, 0, 0]],
        atol=1e-6)
    assert scan_points(scan([])).shape == (3, 0)
    assert scan_points(scan([5, 20], range_max=0.0)).shape == (3, 2)  # not filled in
    for wrong in ({'angle_min': NAN}, {'angle_increment': INF}, {'range_max': NAN}):
        with pytest.raises(ValueError, match='driver'):
            scan_points(scan([1], **wrong))


@pytest.mark.parametrize(('ranges', 'changes', 'said'), [
    ([2.0] * 360, {'angle_min': -180.0, 'angle_increment': 1.0}, 'in radians'),
    ([2.0] * 360, {'angle_increment': 0.0}, 'in radians'),
    ([2400.0] * 9, {'angle_increment': 0.1, 'range_max': 12000.0}, 'millimetres')])
def test_a_scan_in_another_unit_is_named(ranges, changes, said):
    """Degrees for radians, or millimetres for metres, would correct depth without a word."""
    with pytest.raises(ValueError, match=said):
        scan_points(scan(ranges, **changes))


def test_a_cloud_becomes_points():
    records = np.zeros(4, POINT)
    records['x'], records['y'], records['z'] = [1, NAN, 3, 4], [5, 6, INF, 8], [9, 10, 11, 12]
    np.testing.assert_array_equal(cloud_points(cloud(records)), [[1, 4], [5, 8], [9, 12]])
    big = np.array([(1.5, 2, 3)], [('z', '>f8'), ('x', '>f4'), ('y', '>f4')])
    np.testing.assert_array_equal(cloud_points(cloud(big, is_bigendian=True)), [[2], [3], [1.5]])
    padded = cloud(np.ones((2, 3), POINT), row_step=64,  # rows of 48, and a gap
                   data=bytes([0, 0, 128, 63] * 32))
    assert cloud_points(padded).shape == (3, 6)
    assert cloud_points(cloud(np.zeros(0, POINT))).shape == (3, 0)
    records['z'] = 2500
    with pytest.raises(ValueError, match='are these millimetres'):
        cloud_points(cloud(records))


@pytest.mark.parametrize(('change', 'named'), [
    ({'data': b'abc'}, 'holds 3 bytes'), ({'point_step': 6}, 'PointField'),
    ({'row_step': 3}, 'tells of'), ({'fields': []}, 'no field x, y, z')])
def test_a_cloud_that_lies_about_itself_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        cloud_points(cloud(np.zeros(4, POINT), **change))


def test_points_land_where_the_pinhole_sees_them():
    lidar = pose_from_angles(0.1, 0.2, 0.3, 0, 0.1, 0.2)  # in the body frame
    transform = np.linalg.inv(OPTICAL) @ lidar
    body = np.array([[2.0, 0.5, -0.2], [3.0, -0.5, 0.4], [-1.0, 0, 0], [2, 9, 0]])
    points = (np.linalg.inv(lidar) @ np.c_[body, np.ones(4)].T)[:3]
    anchors = project(points, transform, CAMERA)
    np.testing.assert_allclose(anchors.depth, [2, 3], rtol=1e-5)
    np.testing.assert_allclose(anchors.u, CAMERA.cx - CAMERA.fx * np.array([0.25, -0.5 / 3]),
                               rtol=1e-4)
    np.testing.assert_allclose(anchors.v, CAMERA.cy - CAMERA.fy * np.array([-0.1, 0.4 / 3]),
                               rtol=1e-4)
    for wrong in (np.eye(3), np.full((4, 4), NAN)):
        with pytest.raises(ValueError, match='4×4'):
            project(points, wrong, CAMERA)


def test_what_the_camera_cannot_see_is_left_out():
    room = Room(3)
    pose = room.camera_pose(5)
    truth = room.render(CAMERA, pose)[1]
    lidar = pose.copy()
    lidar[2, 3] += 0.5  # half a metre higher it sees over the furniture
    depth = room.render(CAMERA, lidar)[1]
    cloud = organised_cloud(depth, np.zeros((480, 640, 3), np.uint8), CAMERA, stride=6)
    points = np.stack([cloud[axis].ravel() for axis in 'xyz'])
    transform = np.linalg.inv(pose) @ lidar
    anchors = project(points, transform, CAMERA)
    x, y, z = transform[:3, :3] @ points + transform[:3, 3:]
    u, v = np.rint(x / z * CAMERA.fx + CAMERA.cx), np.rint(y / z * CAMERA.fy + CAMERA.cy)
    inside = (z > 0) & (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    hidden = z[inside] > 1.1 * truth[v[inside].astype(int), u[inside].astype(int)]
    kept = anchors.depth > 1.1 * truth[np.rint(anchors.v).astype(int).clip(0, 479),
                                       np.rint(anchors.u).astype(int).clip(0, 639)]
    assert hidden.mean() > 0.03 and kept.mean() < 0.3 * hidden.mean()
    assert len(anchors) > 0.6 * inside.sum()
    beside = pose.copy()
    beside[2, 3] += 0.02  # a depth camera's own cloud is left as it is
    assert len(project(points, np.linalg.inv(pose) @ beside, CAMERA)) > 0.9 * inside.sum()


def test_ultrasound_hears_the_nearest_thing_in_its_cone():
    depth = np.full((480, 640), 3, np.float32)
    depth[230:280, 380:420] = 1.2  # as the network sees it
    transform = np.linalg.inv(OPTICAL) @ pose_from_angles(0, 0, 0, 0, 0, 0)
    anchors = range_anchors(sonar(), transform, depth, CAMERA)
    assert len(anchors) == 1 and 380 <= anchors.u[0] < 420 and 230 <= anchors.v[0] < 280
    ray = np.array([(anchors.u[0] - CAMERA.cx) / CAMERA.fx, (anchors.v[0] - CAMERA.cy) / CAMERA.fy])
    assert anchors.depth[0] * np.sqrt(1 + ray @ ray) == pytest.approx(1, rel=1e-4)
    assert anchors.sigma[0] == pytest.approx(0.1)
    light = range_anchors(sonar(radiation_type=1), transform, depth, CAMERA)
    assert (light.u[0], light.v[0], light.depth[0]) == pytest.approx((319.5, 239.5, 1.0), abs=0.01)
    for silent in (INF, NAN, 0.05, 6.0, -INF):
        assert len(range_anchors(sonar(range=silent), transform, depth, CAMERA)) == 0
    behind = np.linalg.inv(OPTICAL) @ pose_from_angles(0, 0, 0, 0, 0, np.pi)
    assert len(range_anchors(sonar(), behind, depth, CAMERA)) == 0
    assert len(range_anchors(sonar(), transform, np.full_like(depth, NAN), CAMERA)) == 0


@pytest.mark.parametrize('limit', ['min_range', 'max_range', 'field_of_view'])
def test_a_range_without_limits_is_named(limit):
    with pytest.raises(ValueError, match=r'nan.*driver'):
        range_anchors(sonar(**{limit: NAN}), np.linalg.inv(OPTICAL),
                      np.full((480, 640), 3, np.float32), CAMERA)


@pytest.mark.parametrize('degrees', [30, 60])
def test_a_floor_that_sends_no_echo_is_not_pushed_away(degrees):
    """An ultrasound 0.3 m above a floor hears the wall behind it, 3 m ahead."""
    below = np.maximum((np.arange(480) - CAMERA.cy) / CAMERA.fy, 1e-6)[:, None]
    depth = np.tile(np.minimum(0.3 / below, 3).astype(np.float32), (1, 640))
    forward = np.linalg.inv(OPTICAL)
    message = sonar(field_of_view=np.deg2rad(degrees), range=3.0)
    heard = range_anchors(message, forward, depth, CAMERA)
    assert depth[int(heard.v[0]), int(heard.u[0])] == pytest.approx(3, rel=0.05)
    message.range = float(np.hypot(0.3, 0.3 / np.tan(np.deg2rad(degrees / 2))))  # it does echo
    heard = range_anchors(message, forward, depth, CAMERA)
    assert depth[int(heard.v[0]), int(heard.u[0])] == pytest.approx(heard.depth[0], rel=0.4)


def test_few_ranges_move_depth_as_far_as_networks_are_wrong():
    depth = np.full((480, 640), 1, np.float32)

    def limited(*metres, sigma=0.1):
        anchors = Anchors(np.arange(len(metres)) * 9.0, np.zeros(len(metres)), np.array(metres),
                          sigma * np.array(metres))
        return limited_by_prior(anchors, depth).depth
    assert limited(1.1)[0] == pytest.approx(1.1, rel=0.01)
    assert 1.2 < limited(1.5)[0] < 1.3 and limited(2.9)[0] < 1.3 and limited(0.2)[0] > 0.7
    assert limited(1.5, sigma=0.03)[0] > limited(1.5)[0]  # infrared is surer
    assert min(limited(*[1.5] * 8)) > 1.42  # and many that agree
    assert limited(1.5, 0.5, 3.0)[0] == pytest.approx(limited(1.5)[0])  # not many that do not
    blind = Anchors([5], [5], [2])
    assert limited_by_prior(blind, np.full_like(depth, NAN)).depth[0] == 2


def test_of_many_points_the_nearest_in_each_place_are_kept():
    rng = np.random.default_rng(0)
    points = np.stack((rng.uniform(-2, 2, 100_000), rng.uniform(-1.5, 1.5, 100_000),
                       rng.uniform(3, 6, 100_000)))
    points[2, ::10] = 1  # a thing that is near
    few, all_of_them = (project(points[:, ::step], np.eye(4), CAMERA) for step in (10, 1))
    assert len(few) <= 10_000 and 15_000 < len(all_of_them) <= 20_100
    near = all_of_them.depth == 1
    assert near.sum() > 0.6 * (few.depth == 1).sum()
    assert all_of_them.depth[~near].mean() < points[2, points[2] > 1].mean() - 0.3


def test_a_range_beside_the_image_is_told_of():
    forward, left = np.linalg.inv(OPTICAL), np.linalg.inv(OPTICAL) @ pose_from_angles(
        0, 0, 0, 0, 0, np.pi / 2)
    for kind in (0, 1):
        assert not looks_beside(sonar(radiation_type=kind), forward, CAMERA)
        assert 'beside the image' in looks_beside(sonar(radiation_type=kind), left, CAMERA)
        assert not looks_beside(sonar(radiation_type=kind, range=INF), left, CAMERA)
