"""The depth node's obstacles and scan: their messages, the scan's frame, what is not known."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
from test_obstacles import CAMERA, DOWN, HEIGHT, PITCH, scene
from transform_messages import header

from hybrid_depth_ros.nodes.depth.node import DepthNode
from hybrid_depth_ros.nodes.depth.obstacle_topics import ObstacleTopics
from hybrid_depth_ros.nodes.depth.settings import DepthSettings, check_ranges
from hybrid_depth_ros.outlines import snap_edges
from hybrid_depth_ros.point_cloud import cloud_to_array
from hybrid_depth_ros.poses import pose_from_quaternion
from hybrid_depth_ros.predictor import Prediction

SECOND = 10**9
SETTINGS = DepthSettings(camera_height=HEIGHT, camera_pitch=PITCH)
DEPTH, RGB = scene([(1.5, 0.2, -0.2, 0.5)]), np.zeros((480, 640, 3), np.uint8)


class Topic:
    """A publisher."""

    def __init__(self, kind, name):
        self.kind, self.name, self.listeners, self.sent = kind, name, 1, []

    def get_subscription_count(self):
        return self.listeners

    def publish(self, message):
        assert isinstance(message, self.kind)
        self.sent.append(message)


@pytest.fixture
def frames(monkeypatch):
    """Transforms that went to /tf."""
    sent = []
    monkeypatch.setitem(sys.modules, 'tf2_ros', SimpleNamespace(
        TransformBroadcaster=lambda node: SimpleNamespace(sendTransform=sent.append)))
    return sent


def topics(pose=None):
    def lookup(*_):
        if pose is None:
            raise LookupError('no transform leads there')
        return SimpleNamespace(pose=pose)
    warned = []
    made = ObstacleTopics(None, 'front/', Topic, SimpleNamespace(pose_over_time=lookup),
                          lambda *told: warned.append(told))
    return made, *made.publishers, warned


def send(made, depth=DEPTH, settings=SETTINGS, ns=SECOND):
    made.publish(header(ns, 'camera'), depth, RGB, CAMERA, settings)


def test_a_box_is_in_the_cloud_and_in_the_scan(frames):
    made, cloud, scan, warned = topics()
    assert (cloud.name, scan.name) == ('front/depth/obstacles', 'front/depth/scan')
    send(made)
    message, = scan.sent
    assert message.header == header(SECOND, 'camera_level')
    ranges = np.array(message.ranges)
    angles = message.angle_min + message.angle_increment * np.arange(ranges.size)
    assert angles[-1] == pytest.approx(message.angle_max)  # as slam_toolbox counts them
    assert ranges[np.abs(angles).argmin()] == pytest.approx(1.5, abs=0.03)
    assert np.isinf(ranges[np.abs(angles - 0.3).argmin()])
    assert (message.range_min, message.range_max) == (pytest.approx(0.05), 4.0)
    points = cloud_to_array(cloud.sent[0])
    assert cloud.sent[0].header.frame_id == 'camera' and 20 < points.size < 1000
    moved, = frames
    assert (moved.header.frame_id, moved.child_frame_id) == ('camera', 'camera_level')
    rotation = moved.transform.rotation
    pose = pose_from_quaternion((0, 0, 0), (rotation.x, rotation.y, rotation.z, rotation.w))
    np.testing.assert_allclose(pose[:3, 2], -DOWN, atol=1e-6)  # up
    np.testing.assert_allclose(pose[:3, 1], (-1, 0, 0), atol=1e-6)  # left
    assert not warned and not made.problem


def test_only_what_is_listened_to_is_made(frames):
    made, cloud, scan, _ = topics()
    cloud.listeners = scan.listeners = 0
    send(made)
    assert not cloud.sent and not scan.sent and not frames
    cloud.listeners = 1
    send(made)
    assert cloud.sent and not scan.sent and not frames


def test_the_height_of_the_camera_comes_by_tf_or_is_asked_for(frames):
    made, _, scan, warned = topics()
    unknown = DepthSettings()
    send(made, settings=unknown)
    assert not scan.sent and 'set camera_height' in made.problem == warned[0][1]
    floor = np.eye(4)  # base_footprint in the optical frame of a camera that looks ahead
    floor[:3, :3], floor[1, 3] = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]), HEIGHT
    made, _, scan, _ = topics(floor)
    send(made, settings=unknown)
    assert len(scan.sent) == 1 and not made.problem


def test_without_a_floor_in_sight_the_known_height_counts(frames):
    made, _, scan, _ = topics()
    send(made, np.full((480, 640), 0.5, np.float32))
    ranges = np.array(scan.sent[0].ranges)
    assert np.nanmax(ranges) < 0.7  # a wall before the lens, all over


def test_a_floor_that_is_never_seen_is_told_of(frames):
    """A wrong camera_height made all of the floor an obstacle, and nothing said why."""
    made, _, scan, warned = topics()
    for second in range(1, 15):
        send(made, 0.5 * scene(), ns=second * SECOND)  # the floor 0.3 m below the camera
    assert np.nanmax(scan.sent[-1].ranges) < 2
    assert made.problem == warned[-1][1] and warned[-1][2] == 60 and len(warned) < 5
    assert 'has not been seen for 10 s (level surfaces are seen 0.' in made.problem
    assert 'taken to be 0.60 m below the camera' in made.problem
    assert 'see whether camera_height and camera_pitch' in made.problem
    send(made, scene(), ns=15 * SECOND)
    assert not made.problem
    upward = DepthSettings(camera_height=HEIGHT, camera_pitch=-40.0)
    for second in range(16, 30):
        send(made, np.full((480, 640), 2, np.float32), upward, second * SECOND)
    assert not made.problem  # no floor is expected there


def test_without_tf2_ros_the_scan_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    made, _, scan, warned = topics()
    send(made)
    assert scan.sent
    assert 'from camera to camera_level is not sent: tf2_ros is not installed' in warned[0][1]


def test_the_scan_keeps_its_directions_while_the_camera_sways(frames):
    made, _, scan, _ = topics()
    for pitch in (10.0, 10.4, 9.7):
        send(made, settings=DepthSettings(camera_height=HEIGHT, camera_pitch=pitch))
    assert len({(m.angle_min, m.angle_increment, len(m.ranges), m.range_max)
                for m in scan.sent}) == 1


def test_settings_that_hold_nothing_are_named():
    with pytest.raises(ValueError, match=r'obstacle heights 2 to 1\.8 m hold nothing'):
        check_ranges(DepthSettings(min_obstacle_height=2.0))
    with pytest.raises(ValueError, match='anchor_max_range 3 m is not above anchor_min_range 5 m'):
        check_ranges(DepthSettings(anchor_min_range=5.0, anchor_max_range=3.0))


def test_the_node_makes_them_of_each_frame_that_is_asked_for(frames, monkeypatch):
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = DepthNode(lambda images, focals: None, context=context, cli_args=[
            '--ros-args', '-p', 'autostart:=false'])
        camera, = node._cameras
        sent = []
        monkeypatch.setattr(camera._obstacles, 'publish', lambda *given: sent.append(given))
        frame = SimpleNamespace(header=header(SECOND, 'camera'), rgb=RGB, intrinsics=CAMERA)
        camera.publish_cloud(frame, Prediction(DEPTH, True), node._settings)
        camera.publish_cloud(frame, None, node._settings)  # relative depth has no metres
        assert len(sent) == 1 and sent[0][1] is DEPTH
        assert sent[0][-1] is None  # no cloud was asked for
        camera._obstacles.problem = 'the height is unknown'
        assert camera._obstacles.publishers[0] in camera._depth_publishers
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_outlines_that_the_cloud_needed_as_well_are_looked_at_once(frames, monkeypatch):
    snapped = snap_edges(DEPTH, DepthSettings().edge_filter)
    made, _, scan, _ = topics()
    send(made)
    monkeypatch.setattr('hybrid_depth_ros.obstacles.snap_edges', None)
    made.publish(header(SECOND, 'camera'), DEPTH, RGB, CAMERA, SETTINGS, snapped)
    own, shared = (np.array(message.ranges) for message in scan.sent)
    near = np.isfinite(own) & np.isfinite(shared)
    assert (np.isnan(own) == np.isnan(shared)).all() and (near == np.isfinite(own)).mean() > 0.98
    np.testing.assert_allclose(own[near], shared[near], rtol=0.02)
