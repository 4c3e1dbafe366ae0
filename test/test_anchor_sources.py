"""From what sensors say to anchors: scans, clouds, ranges, and the floor."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors import anchored
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.anchors.floor import down_from_pitch, find_floor
from hybrid_depth_ros.anchors.sensors import cloud_points, project, range_anchors, scan_points
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.point_cloud import POINT, organised_cloud
from hybrid_depth_ros.poses import pose_from_angles, pose_from_quaternion
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
OPTICAL = pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # of a camera in its body frame
NAN, INF = float('nan'), float('inf')


def scan(ranges, **changes):
    return SimpleNamespace(**{
        'ranges': np.array(ranges, np.float32), 'angle_min': -0.5, 'angle_increment': 0.5,
        'range_min': 0.1, 'range_max': 8.0, **changes})


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
    """OrbbecSDK_ROS2#55's kind: depth was corrected by it without a word."""
    with pytest.raises(ValueError, match=said):
        scan_points(scan(ranges, **changes))


def cloud(records, **changes):
    data = np.ascontiguousarray(records)
    fields = [SimpleNamespace(name=name, offset=data.dtype.fields[name][1],
                              datatype={'f4': 7, 'f8': 8, 'u4': 6}[data.dtype[name].str[1:]])
              for name in data.dtype.names]
    height, width = data.shape if data.ndim == 2 else (1, data.size)
    return SimpleNamespace(**{
        'fields': fields, 'height': height, 'width': width, 'is_bigendian': False,
        'point_step': data.itemsize, 'row_step': width * data.itemsize, 'data': data.tobytes(),
        **changes})


def test_a_cloud_becomes_points():
    records = np.zeros(4, POINT)
    records['x'], records['y'], records['z'] = [1, NAN, 3, 4], [5, 6, INF, 8], [9, 10, 11, 12]
    np.testing.assert_array_equal(cloud_points(cloud(records)), [[1, 4], [5, 8], [9, 12]])
    big = np.array([(1.5, 2, 3)], [('z', '>f8'), ('x', '>f4'), ('y', '>f4')])
    np.testing.assert_array_equal(cloud_points(cloud(big, is_bigendian=True)), [[2], [3], [1.5]])
    padded = cloud(np.zeros((2, 3), POINT), row_step=64, data=bytes(128))  # rows of 48, and a gap
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


def sonar(**changes):
    return SimpleNamespace(**{'radiation_type': 0, 'field_of_view': 0.4, 'min_range': 0.1,
                              'max_range': 5.0, 'range': 1.0, **changes})


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


def stamped(message):
    stamp = SimpleNamespace(sec=0, nanosec=0)
    message.header = SimpleNamespace(stamp=stamp, frame_id='sensor')
    return message


@pytest.mark.parametrize('units', [1, 100, 1000])
@pytest.mark.parametrize('kind', ['scan', 'points', 'range'])
def test_other_units_than_metres_are_refused(kind, units):
    depth = np.full((480, 640), 2, np.float32)
    records = np.zeros(9, POINT)
    records['x'], records['y'] = 2.5 * units, np.linspace(-0.4, 0.4, 9) * units
    message = stamped({
        'scan': lambda: scan([2.5 * units] * 11, angle_increment=0.1, range_max=1e9),
        'points': lambda: cloud(records),
        'range': lambda: sonar(radiation_type=1, range=2.5 * units, max_range=1e9)}[kind]())
    corrector = AnchorCorrector([kind], [np.linalg.inv(OPTICAL)])
    corrector.take(kind, message)
    corrected = corrector.correct(depth, ImageInfo(0, 'optical', CAMERA), AnchorSettings()).depth
    trouble = corrector.sources[kind].trouble
    if units == 1:
        assert not trouble and corrector.sources[kind].used
        assert corrected[240, 320] == pytest.approx(2.5, rel=0.03)
    else:
        assert 'metres (REP 103)' in trouble or 'not millimetres' in trouble
        np.testing.assert_array_equal(corrected, depth)


def test_depth_of_another_size_than_its_camera_is_left_as_it_is():
    depth = np.full((240, 320), 2, np.float32)
    corrector = AnchorCorrector(['range', 'floor'], [np.linalg.inv(OPTICAL), None])
    corrector.take('range', stamped(sonar(radiation_type=1, range=2.5)))
    settings = AnchorSettings(camera_height=0.5)
    np.testing.assert_array_equal(
        corrector.correct(depth, ImageInfo(0, 'optical', CAMERA), settings).depth, depth)
    for source in corrector.sources.values():
        assert 'camera_info is of 640×480 pixels, depth of 320×240' in source.trouble
    corrector.correct(depth, ImageInfo(0, 'optical', CAMERA.resized(320, 240)), settings)
    assert not corrector.sources['range'].trouble


def test_poses_follow_rep_103():
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)  # z is forward
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)  # x is right
    np.testing.assert_allclose(pose_from_quaternion((1, 2, 3), (-0.5, 0.5, -0.5, 0.5)),
                               pose_from_angles(1, 2, 3, -np.pi / 2, 0, -np.pi / 2), atol=1e-12)
    for wrong in ((0, 0, 0, 0), (NAN, 0, 0, 1)):
        with pytest.raises(ValueError, match='quaternion'):
            pose_from_quaternion((0, 0, 0), wrong)


# --- the floor ----------------------------------------------------------------------------

def view(seed, seconds, height, pitch=11.0):
    """What a camera at this height sees: rgb, depth."""
    room = Room(seed)
    pose = room.camera_pose(seconds)
    yaw, pitch = np.arctan2(pose[1, 2], pose[0, 2]), -np.deg2rad(pitch)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose[:3, :3] = np.column_stack((right, np.cross(forward, right), forward))
    pose[2, 3] = height
    return room.render(CAMERA, pose)


@pytest.mark.parametrize('height', [0.35, 0.7, 1.0, 1.4])
def test_the_floor_gives_the_scale_back(height):
    truth = view(11, 12, height)[1]
    scale = 1.6 * max(height, 0.6) / height  # a network that takes the camera for a person's eye
    seen = cv2.GaussianBlur(truth, (0, 0), 5) * np.float32(scale)
    floor = find_floor(seen, CAMERA, height, down_from_pitch(11))
    assert not floor.reason
    assert floor.height == pytest.approx(scale * height, rel=0.08)
    on = truth[floor.anchors.v.astype(int), floor.anchors.u.astype(int)]
    assert np.median(np.abs(floor.anchors.depth / on - 1)) < 0.04
    result = anchored(seen, floor.anchors)
    assert np.median(result.depth / truth) == pytest.approx(1, abs=0.15)


def test_a_table_is_not_the_floor():
    rows = np.arange(480, dtype=np.float32)[:, None]
    slope = np.maximum((rows - CAMERA.cy) / CAMERA.fy, 1e-4)
    table = np.broadcast_to(np.minimum(0.6 / slope, 2.5), (480, 640)).astype(np.float32)
    seen = find_floor(table, CAMERA, 1.4, [0, 1, 0])  # 0.6 m below a camera that is 1.4 m high
    assert len(seen.anchors) == 0 and '0.6' in seen.reason and 'none fits' in seen.reason
    assert not find_floor(table, CAMERA, 0.6, [0, 1, 0]).reason
    seat = np.broadcast_to(np.minimum(1.03 / slope, 2.5), (480, 640)).astype(np.float32)
    assert 'none fits' in find_floor(seat, CAMERA, 1.4, [0, 1, 0]).reason
    assert not find_floor(seat, CAMERA, 1.2, [0, 1, 0]).reason
    both = table.copy()
    both[:, :400] = np.minimum(1.4 / slope, 6)
    floor = find_floor(both, CAMERA, 1.3, [0, 1, 0])
    assert floor.height == pytest.approx(1.4, rel=0.04)
    assert floor.anchors.u.max() < 420


def test_no_floor_no_anchors():
    wall = np.full((480, 640), 2, np.float32)
    assert find_floor(wall, CAMERA, 1.2, [0, 1, 0]).reason == 'no level surface is seen'
    assert 'above' in find_floor(wall, CAMERA, 1.2, down_from_pitch(-60)).reason
    assert 'no depth' in find_floor(wall * np.float32(NAN), CAMERA, 1.2, [0, 1, 0]).reason
    for shape in ((1, 1), (2, 3), (1, 640)):
        small = CAMERA.resized(*shape[::-1])
        assert find_floor(np.ones(shape, np.float32), small, 1, [0, 1, 0]).reason
    for height, down in ((0, [0, 1, 0]), (NAN, [0, 1, 0]), (1, [0, 0, 0]), (1, [0, NAN, 1])):
        with pytest.raises(ValueError, match=r'height|gravity'):
            find_floor(wall, CAMERA, height, down)


def test_gravity_by_pitch_and_roll():
    np.testing.assert_allclose(down_from_pitch(0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(down_from_pitch(90), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(down_from_pitch(0, 90), [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize('roll', [-25, 0, 25])
def test_a_rolled_camera_finds_the_floor_by_its_roll(roll):
    down = down_from_pitch(20, roll)
    x, y = np.meshgrid((np.arange(640) - CAMERA.cx) / CAMERA.fx,
                       (np.arange(480) - CAMERA.cy) / CAMERA.fy)
    drop = x * down[0] + y * down[1] + down[2]
    truth = np.where(drop > 0.1, 0.5 / np.maximum(drop, 0.1), 5).astype(np.float32)

    def scale(**angles):
        corrector = AnchorCorrector(['floor'])
        corrector.correct(truth * np.float32(1.5), ImageInfo(0, 'optical', CAMERA),
                          AnchorSettings(camera_height=0.5, **angles))
        return corrector.last.completion.scale
    assert scale(camera_pitch=20, camera_roll=roll) == pytest.approx(1 / 1.5, rel=0.02)
    if roll:
        assert scale(camera_pitch=20) != pytest.approx(1 / 1.5, rel=0.02)
