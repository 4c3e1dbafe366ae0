"""The depth node with anchors, over DDS: a scene whose depth the network has wrong by a factor."""

from importlib.util import find_spec

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
import stub_depth_node as scene
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from graph import CAMERA, CHART, Graph, OneProcess
from lidar_scene import LIDAR, TRUTH, WRONG, off, scene_scan
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, LaserScan, PointCloud2, Range
from std_msgs.msg import Header
from stub_depth_node import HEIGHT, WIDTH

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    cloud_message,
    rgb_to_image,
)
from hybrid_depth_ros.point_cloud import POINT, cloud_to_array
from hybrid_depth_ros.poses import pose_from_angles, quaternion_from_pose, read_pose
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose


def moved(header, seconds):
    """The header of a message from then on."""
    ns = header.stamp.sec * 10**9 + header.stamp.nanosec + round(seconds * 1e9)
    return Header(stamp=Time(sec=ns // 10**9, nanosec=ns % 10**9), frame_id='lidar')


def depth_of(graph, **options):
    message = graph.answer('depth/image', rgb_to_image(CHART, graph.header()), **options)
    return None if message is None else image_to_depth(message)


def scan_graph(*more, anchors='[scan]', poses=f"['{LIDAR}']"):
    return {'arguments': ('-p', f'anchors:={anchors}', '-p', f'anchor_poses:={poses}',
                          '-p', 'anchor_time_constant:=0.0', '-p', 'latency_warning:=0.0',
                          *more), 'scale': WRONG}


@pytest.mark.parametrize('graph', [scan_graph()], indirect=True)
def test_a_lidar_gives_plane_and_sphere_their_distance_until_it_dies(graph):
    graph.listen(Image, 'depth/image')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', qos_profile_sensor_data)
    graph.ready()
    assert off(depth_of(graph))[0] == pytest.approx(WRONG - 1, abs=0.01)  # none came: as it was
    said = graph.diagnosis(lambda status: 'anchors/scan' in status.message)['depth']
    assert said.level == DiagnosticStatus.WARN
    assert 'nothing came on /anchors/scan' in said.message and 'goes on' in said.message
    graph.ready(lidar)

    header = graph.header()
    graph.listen(PointCloud2, 'depth/anchors')
    graph.spin(0.3)
    for seconds in (-0.3, 0.2, -0.05, 0.35):  # another rate than the images', out of order
        lidar.publish(scene_scan(moved(header, seconds)))
    graph.spin(0.3)
    graph.answer('depth/image', rgb_to_image(CHART, header))
    depth = image_to_depth(graph.got['depth/image'][-1])
    assert off(depth)[0] < 0.02
    sphere = np.abs(np.linalg.norm(  # where the scene's sphere is
        np.array([0.3, 0.2, 1.8]) - scene.SPHERE_CENTRE)) < 1 and TRUTH < 1.9
    graph.spin(1, lambda: graph.got['depth/anchors'])
    shown = cloud_to_array(graph.got['depth/anchors'][-1])[0]
    u = np.rint(shown['x'] / shown['z'] * CAMERA.fx + CAMERA.cx).astype(int)
    v = np.rint(shown['y'] / shown['z'] * CAMERA.fy + CAMERA.cy).astype(int)
    assert np.median(np.abs(shown['z'] / TRUTH[v, u] - 1)) < 0.01
    assert np.median(shown['rgb'] >> 8 & 255) > 200  # green: they agree
    assert off(depth, sphere)[0] < 0.02 and off(depth, ~sphere)[0] < 0.02
    values = {v.key: v.value for v in graph.diagnosis(
        lambda status: status.level == DiagnosticStatus.OK)['depth'].values}
    assert int(values['anchors/scan'].split()[0]) > 20
    assert float(values['anchored scale']) == pytest.approx(1 / WRONG, rel=0.05)
    assert float(values['anchored spread']) < 0.1

    graph.spin(1.5)  # the lidar is dead
    assert off(depth_of(graph))[0] == pytest.approx(WRONG - 1, abs=0.01)
    said = graph.diagnosis(lambda status: 'anchors/scan' in status.message)['depth']
    assert said.level == DiagnosticStatus.WARN and 'away from the image' in said.message
    assert graph.log.read_text().count('anchors/scan: ') == 1  # said once


@pytest.mark.parametrize('graph', [scan_graph()], indirect=True)
def test_scans_that_say_nothing_do_no_harm(graph):
    graph.listen(Image, 'depth/image')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', 10)
    graph.ready()
    graph.ready(lidar)
    for change in ({'ranges': []}, {'ranges': [float('inf')] * 360}, {'ranges': [float('nan')] * 9},
                   {'ranges': [-1.0, 0.0, 1e30] * 50}, {'angle_min': float('nan')},
                   {'range_max': float('nan')}, {'angle_increment': 0.0}):
        header = graph.header()
        scan = scene_scan(header)
        for name, value in change.items():
            setattr(scan, name, value)
        lidar.publish(scan)
        graph.spin(0.2)
        graph.answer('depth/image', rgb_to_image(CHART, header))
        depth = image_to_depth(graph.got['depth/image'][-1])
        assert np.isfinite(depth).all() and depth.shape == TRUTH.shape, change
    assert 'Traceback' not in graph.log.read_text()
    header = graph.header()
    lidar.publish(scene_scan(header))
    graph.spin(0.2)
    graph.answer('depth/image', rgb_to_image(CHART, header))
    assert off(image_to_depth(graph.got['depth/image'][-1]))[0] < 0.02


@pytest.mark.parametrize('graph', [scan_graph()], indirect=True)
def test_a_camera_info_of_another_frame_is_named_and_places_no_anchors(graph):
    graph.listen(Image, 'depth/image')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', 10)
    graph.ready()
    graph.ready(lidar)
    header = graph.header()
    lidar.publish(scene_scan(moved(header, 0)))
    graph.info.publish(camera_info_message(CAMERA, Header(stamp=header.stamp, frame_id='right')))
    graph.spin(0.3)
    message = graph.answer('depth/image', rgb_to_image(CHART, header), camera=None)
    assert off(image_to_depth(message))[0] == pytest.approx(WRONG - 1, abs=0.01)
    said = graph.diagnosis(lambda status: 'camera_info is of' in status.message)['depth']
    assert said.level == DiagnosticStatus.WARN
    assert "the frame 'right', the images are of" in said.message


@pytest.mark.parametrize('graph', [scan_graph(anchors='[points, range/left]',
                                              poses="['0 0 0 0 0 0']")], indirect=True)
def test_a_cloud_and_a_range_correct_as_well(graph):
    graph.listen(Image, 'depth/image')
    cloud = graph.node.create_publisher(PointCloud2, 'anchors/points', 10)
    sonar = graph.node.create_publisher(Range, 'anchors/range/left', 10)
    graph.ready()
    graph.ready(cloud)
    rng = np.random.default_rng(0)
    v, u = rng.integers(0, HEIGHT, 30_000), rng.integers(0, WIDTH, 30_000)
    z = TRUTH[v, u]
    points = np.zeros((1, z.size), POINT)  # in a body frame: x forward, y left, z up
    points['x'], points['y'] = z, -(u - CAMERA.cx) / CAMERA.fx * z
    points['z'] = -(v - CAMERA.cy) / CAMERA.fy * z
    header = graph.header()
    cloud.publish(cloud_message(points, moved(header, -0.1)))
    graph.spin(0.3)
    graph.answer('depth/image', rgb_to_image(CHART, header))
    assert off(image_to_depth(graph.got['depth/image'][-1])) < (0.01, 0.02)
    graph.spin(1)
    header = graph.header()  # the cloud is too old now, one range is left
    middle = float(TRUTH[int(CAMERA.cy), int(CAMERA.cx)])
    sonar.publish(Range(header=moved(header, 0), radiation_type=1, field_of_view=0.1,
                        min_range=0.1, max_range=5.0, range=middle))
    graph.spin(0.3)
    graph.answer('depth/image', rgb_to_image(CHART, header))
    assert off(image_to_depth(graph.got['depth/image'][-1]))[0] < 0.1


def stamped(graph, frame, seconds=0.0):
    ns = graph.node.get_clock().now().nanoseconds + round(seconds * 1e9)
    return Header(stamp=Time(sec=ns // 10**9, nanosec=ns % 10**9), frame_id=frame)


def link(header, child, pose):
    """geometry_msgs/TransformStamped of a 4×4 pose."""
    transform = TransformStamped(header=header, child_frame_id=child)
    transform.transform.translation = Vector3(**dict(zip('xyz', pose[:3, 3].tolist())))
    transform.transform.rotation = Quaternion(**dict(zip('xyzw', quaternion_from_pose(pose))))
    return transform


@pytest.mark.skipif(find_spec('tf2_ros') is None, reason='needs tf2_ros')
@pytest.mark.parametrize('graph', [scan_graph(poses="['']")], indirect=True)
def test_a_scan_finds_its_place_by_tf(graph):
    import tf2_ros
    graph.listen(Image, 'depth/image')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', 10)
    graph.ready()
    graph.ready(lidar)
    camera = pose_from_angles(0.2, 0, 0.4, -np.pi / 2, 0, -np.pi / 2)  # optical, in base
    static = tf2_ros.StaticTransformBroadcaster(graph.node)
    moving = tf2_ros.TransformBroadcaster(graph.node)

    def anchored_depth(away=0.0):
        """Depth of an image that was taken 0.3 s after the scan, `away` metres ahead of it."""
        head = stamped(graph, 'optical', -0.1)
        then = moved(head, -0.3)
        for seconds, x in ((-0.4, 0.0), (-0.3, 0.0), (0.0, away), (0.1, away)):
            odom = moved(head, seconds)
            odom.frame_id = 'odom'
            moving.sendTransform(link(odom, 'base', pose_from_angles(x, 0, 0, 0, 0, 0)))
        lidar_then = np.linalg.inv(camera) @ pose_from_angles(-away, 0, 0, 0, 0, 0) @ mount
        lidar.publish(scene_scan(then, pose=lidar_then))
        graph.spin(0.4)
        graph.answer('depth/image', rgb_to_image(CHART, head))
        return image_to_depth(graph.got['depth/image'][-1])

    mount = camera @ read_pose(LIDAR)
    assert off(anchored_depth())[0] == pytest.approx(WRONG - 1, abs=0.01)  # nobody sent transforms
    said = graph.diagnosis(lambda status: 'anchors/scan' in status.message)['depth']
    assert 'lidar to optical' in said.message
    static.sendTransform([link(stamped(graph, 'base'), 'optical', camera)])
    graph.spin(0.5)
    assert off(anchored_depth())[0] == pytest.approx(WRONG - 1, abs=0.01)  # the lidar's is missing
    static.sendTransform([link(stamped(graph, 'base'), 'optical', camera),
                          link(stamped(graph, 'base'), 'lidar', mount)])
    graph.spin(0.5)
    assert off(anchored_depth())[0] < 0.02
    assert off(anchored_depth(away=0.5))[0] < 0.02  # by way of odom
    assert graph.log.read_text().count('anchors/scan: ') == 1
    # time runs backwards, a frame gets another parent, a rotation is none
    back = stamped(graph, 'odom', -1000)
    moving.sendTransform(link(back, 'base', np.eye(4)))
    moving.sendTransform(link(stamped(graph, 'map'), 'odom', pose_from_angles(9, 9, 9, 1, 1, 1)))
    broken = link(stamped(graph, 'odom', 5), 'base', np.eye(4))
    broken.transform.rotation.w = 0.0
    moving.sendTransform(broken)
    graph.spin(0.3)
    depth = anchored_depth()
    assert np.isfinite(depth).all()
    assert off(anchored_depth())[0] < 0.02
    assert 'Traceback' not in graph.log.read_text()


@pytest.mark.parametrize('graph', [scan_graph(poses="['']")], indirect=True)
def test_without_tf_depth_goes_on_and_the_mend_is_named(graph):
    graph.listen(Image, 'depth/image')
    lidar = graph.node.create_publisher(LaserScan, 'anchors/scan', 10)
    graph.ready()
    graph.ready(lidar)
    for _ in range(3):
        header = graph.header()
        lidar.publish(scene_scan(moved(header, 0)))
        graph.spin(0.2)
        graph.answer('depth/image', rgb_to_image(CHART, header))
    assert off(image_to_depth(graph.got['depth/image'][-1]))[0] == pytest.approx(
        WRONG - 1, abs=0.01)
    said = graph.diagnosis(lambda status: 'anchors/scan' in status.message)['depth']
    assert 'anchor_poses' in said.message
    assert ('lidar' if find_spec('tf2_ros') else 'tf2_ros is not installed') in said.message
    assert graph.log.read_text().count('anchors/scan: ') == 1


def test_a_low_camera_sees_the_room_at_its_size_by_the_floor():
    """With the shipped weights: what they are wrong by, the floor mends."""
    camera, room = Intrinsics.from_horizontal_fov(320, 240, 63.3), Room(600)
    walk = room.camera_pose(3)
    rgb, truth = room.render(camera, upright_camera_pose(
        [*walk[:2, 3], 0.2], np.arctan2(walk[1, 2], walk[0, 2]), -np.deg2rad(11)))
    graph = OneProcess(None, '-p', 'anchors:=[floor]', '-p', 'camera_height:=0.2', '-p',
                       'camera_pitch:=11.0', '-p', 'latency_warning:=0.0', '-p',
                       'runtime:=torch', '-p', 'precision:=fp32')
    try:
        graph.info.publish(camera_info_message(camera, Header()))
        stream, = graph.depth_node._cameras
        assert graph.spin(lambda: stream._calibrations)
        graph.send(rgb)
        assert graph.spin(lambda: graph.got['depth/image'])
        depth = image_to_depth(graph.got['depth/image'][0])
        assert np.median(depth / truth) == pytest.approx(1, abs=0.1)
        values = {v.key: v.value for v in stream.status(graph.depth_node._settings).values}
        assert int(values['anchors/floor'].split()[0]) > 20, values
    finally:
        graph.close()


@pytest.mark.parametrize(('arguments', 'named'), [
    (('-p', 'anchors:=[lidar]'), "'lidar'"), (('-p', 'anchors:=[scan, scan]'), 'once'),
    (('-p', 'anchors:=[scan]', '-p', "anchor_poses:=['1 2 3']"), 'six numbers'),
    (('-p', 'anchors:=[scan]', '-p', "anchor_poses:=['', '']"), 'one for all'),
    (('-p', 'anchors:=[floor/left]'), 'floor/left'), (('-p', "anchors:=['scan/9 x']"), 'scan/9 x')])
def test_parameters_that_will_not_do_are_named(arguments, named, tmp_path):
    graph = Graph(tmp_path / 'log', *arguments)
    try:
        assert graph.process.wait(20) == 1
        text = graph.log.read_text()
        assert named in text and 'parameter' in text and 'Traceback' not in text
    finally:
        graph.process.kill()
        graph.leave()
