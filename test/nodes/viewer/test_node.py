"""The viewer over DDS: whom it listens to, and what it shows of what comes."""

import socket
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
viser = pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')
from builtin_interfaces.msg import Time
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from viewer_graph import CAMERA, DEPTH, HEIGHT, WIDTH, Graph, look, wait_for

from hybrid_depth_ros.nodes.shared.messages import (
    camera_info_message,
    cloud_message,
    depth_to_image,
    rgb_to_image,
)
from hybrid_depth_ros.nodes.viewer.node import (
    MAX_WARNING_LENGTH,
    SETTINGS,
    cloud_points,
    main,
    scan_beams,
)
from hybrid_depth_ros.point_cloud import POINT, organised_cloud


def test_our_cloud_becomes_points_within_the_budget():
    rgb = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    depth = DEPTH.copy()
    depth[0] = np.nan
    cloud = organised_cloud(depth, rgb, CAMERA)
    message = cloud_message(cloud, Header())

    points, colours = cloud_points(message, HEIGHT * WIDTH)
    assert points.dtype == np.float32 and colours.dtype == np.uint8
    np.testing.assert_array_equal(
        points, np.stack([cloud[axis][1:] for axis in 'xyz'], -1).reshape(-1, 3))
    np.testing.assert_array_equal(colours, rgb[1:].reshape(-1, 3))

    points, colours = cloud_points(message, 1000)  # every second row and column
    assert len(points) == (HEIGHT // 2 - 1) * WIDTH // 2
    np.testing.assert_array_equal(colours, rgb[::2, ::2][1:].reshape(-1, 3))


def test_a_strangers_cloud_is_read_by_its_fields():
    # big-endian, one line, padding before and between the fields, rows longer than the points
    kind = np.dtype({'names': ['z', 'x', 'y'], 'formats': ['>f4'] * 3, 'offsets': [4, 12, 20],
                     'itemsize': 28})
    line = np.zeros(6, kind)
    line['x'], line['y'], line['z'] = np.arange(6), 7, [1, 2, np.inf, 4, 5, 6]
    message = PointCloud2(
        height=1, width=6, point_step=28, row_step=28 * 6 + 3, is_bigendian=True,
        data=line.tobytes() + b'\0' * 3,
        fields=[PointField(name=name, offset=kind.fields[name][1], count=1,
                           datatype=PointField.FLOAT32) for name in kind.names])
    points, colours = cloud_points(message, 6)
    np.testing.assert_array_equal(points, [[x, 7, x + 1] for x in (0, 1, 3, 4, 5)])
    assert colours[0, 0] > colours[0, 2] and colours[-1, 2] > colours[-1, 0]  # warm is near
    assert len(cloud_points(message, 3)[0]) == 2  # 0, 2 (not finite), 4

    with pytest.raises(ValueError, match='truncated'):
        message.width = 7
        cloud_points(message, 6)
    message.width, message.fields[1].offset = 6, 2**31 - 1
    with pytest.raises(ValueError, match='points of 28 bytes, which end before their fields x'):
        cloud_points(message, 6)
    with pytest.raises(ValueError, match='no field z'):
        cloud_points(PointCloud2(fields=message.fields[1:]), 6)


def test_a_hostile_cloud_is_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    odd = [0, 1, 3, 4, 12, 16, 2**31 - 1, 2**31, 2**32 - 1]
    sizes = [0, 1, 2, 5, 2**16, 2**32 - 1]
    read = 0
    for _ in range(3000):
        message = PointCloud2(
            height=int(rng.choice(sizes)), width=int(rng.choice(sizes)),
            point_step=int(rng.choice(odd)), row_step=int(rng.choice([*odd, 80])),
            is_bigendian=bool(rng.integers(2)), data=rng.bytes(int(rng.integers(0, 400))),
            fields=[PointField(name=name, offset=int(rng.choice(odd)) if rng.random() < 0.1 else
                               4 * place, datatype=PointField.FLOAT32, count=1)
                    for place, name in enumerate(['x', 'y', 'z', 'rgb'][:rng.integers(3, 5)])])
        try:
            points, colours = cloud_points(message, 100)
            read += len(points) > 0
            assert len(points) == len(colours) <= 100
        except ValueError as error:
            assert '\n' not in str(error)
    assert read > 5


def test_missing_viser_is_named_with_the_mend(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'viser', None)
    assert main(['--ros-args', '-p', 'port:=0']) == 1
    error = capfd.readouterr().err
    assert 'pip install viser' in error and 'Traceback' not in error


@pytest.mark.parametrize('graph', [QoSProfile(depth=1), qos_profile_sensor_data], indirect=True,
                         ids=['reliable', 'best effort'])
def test_topics_are_heard_only_while_the_page_is_open(graph):
    shown = []
    graph.page.show_image = lambda rgb: shown.append(rgb[0, 0].tolist())
    assert not wait_for(lambda: any(graph.listeners()), 2)
    for _ in range(2):
        with look(graph.page):
            assert wait_for(lambda: graph.listeners() == [1, 1, 1])
            shown.clear()
            assert wait_for(lambda: [255, 0, 0] in shown)
        assert wait_for(lambda: not any(graph.listeners()))


def test_anchors_are_drawn_where_they_lie(graph):
    shown = []
    graph.page.show_image = lambda rgb: shown.append(rgb)
    info = graph.node.create_publisher(CameraInfo, 'depth/camera_info', 1)
    anchors = graph.node.create_publisher(PointCloud2, 'depth/anchors', 1)
    points = np.zeros((1, 2), POINT)
    u, v = np.array([WIDTH // 4, WIDTH // 2]), np.array([HEIGHT // 3, HEIGHT // 2])
    points['z'], points['rgb'] = 2, [0x00ff00, 0x0000ff]
    points['x'] = (u - CAMERA.cx) / CAMERA.fx * 2
    points['y'] = (v - CAMERA.cy) / CAMERA.fy * 2
    with look(graph.page):
        assert wait_for(lambda: anchors.get_subscription_count() and info.get_subscription_count())

        def drawn():
            header = Header(stamp=graph.node.get_clock().now().to_msg(), frame_id='camera')
            info.publish(camera_info_message(CAMERA, header))
            anchors.publish(cloud_message(points, header))
            return shown and [shown[-1][row, column].tolist() for row, column in zip(v, u)] == [
                [0, 255, 0], [0, 0, 255]]
        assert wait_for(drawn)
        assert shown[-1][0, 0].tolist() == [255, 0, 0]
        assert wait_for(lambda: (shown[-1] == [255, 0, 0]).all())  # they are old by then


@pytest.mark.parametrize('graph', [{'floor_map': True}], indirect=True)
def test_the_scan_is_a_map_from_above(graph):
    shown = []
    graph.page.show_floor_map = lambda *given: shown.append(given)
    scan = graph.node.create_publisher(LaserScan, 'depth/scan', 1)
    message = LaserScan(angle_min=-0.5, angle_increment=0.5, range_max=4.0,
                        ranges=[1.0, np.inf, np.nan])
    with look(graph.page):
        assert wait_for(scan.get_subscription_count)
        assert wait_for(lambda: scan.publish(message) or shown)
    angles, ranges, reach = shown[0]
    np.testing.assert_allclose(angles, (-0.5, 0, 0.5))
    np.testing.assert_array_equal(ranges, (1, np.inf, np.nan))
    assert reach == 4


def test_a_hostile_scan_is_refused_or_cut_down():
    many = LaserScan(angle_increment=1e-6, range_max=1e30, ranges=np.ones(10**5, np.float32))
    angles, ranges, reach = scan_beams(many)
    assert angles.size == ranges.size == 1000 and reach == 10
    assert angles[-1] == pytest.approx(0.0999)
    for wrong in (LaserScan(range_max=np.nan), LaserScan(angle_min=np.inf, ranges=[1.0])):
        with pytest.raises(ValueError, match='no scan'):
            scan_beams(wrong)
    assert scan_beams(LaserScan(range_max=1.0))[1].size == 0


def test_this_machine_alone_sees_the_page_by_default(graph):
    assert {setting.name: setting.default for setting in SETTINGS}['host'] == '127.0.0.1'
    socket.create_connection(('127.0.0.1', graph.page.port), 5).close()
    with pytest.raises(OSError):  # another of this machine's addresses
        socket.create_connection(('127.0.0.2', graph.page.port), 5)


def test_a_taken_port_ends_the_node_with_a_reason(page, capfd):
    assert main(['--ros-args', '-p', f'port:={page.port}']) == 1
    error = capfd.readouterr().err
    assert f'port {page.port} of 127.0.0.1 is taken' in error and 'Traceback' not in error


def test_hostile_messages_end_nothing(graph, capfd):
    """Any bytes at all; one topic's trouble keeps none of the others from being shown."""
    viewer, shown = graph.viewer, []
    graph.closing = True
    graph.thread.join()  # from here on, this thread does what the timers did
    graph.page.show_image = lambda rgb: shown.append(rgb.shape)
    for topic in viewer._topics:
        topic.set_wanted(True)
    image = serialize_message(rgb_to_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Header()))
    depths = [np.full((2, 3), value, np.float32) for value in (
        1e-45, 1e9, 3e38, np.inf, -1, 0)] + [np.float32([[1e-3, 3e38]]), np.ones((1, 5000))]
    stamps = [Time(sec=sec, nanosec=2**32 - 1) for sec in (-2**31, -1, 0, 2**31 - 1)]
    rng = np.random.default_rng(0)
    good = serialize_message(cloud_message(organised_cloud(
        DEPTH, np.zeros((HEIGHT, WIDTH, 3), np.uint8), CAMERA), Header()))
    hostile = [(viewer._depth, serialize_message(
        depth_to_image(depth, Header(stamp=stamp), '32FC1'))) for depth in depths
        for stamp in stamps]
    hostile += [(viewer._depth, serialize_message(Image(encoding='a' * 10**6)))]
    for topic, whole in ((viewer._depth, hostile[0][1]), (viewer._cloud, good)):
        for _ in range(40):
            damaged = bytearray(whole[:rng.integers(4, len(whole) + 1)])
            for place in rng.integers(4, min(len(damaged), 150) + 1, 3):
                damaged[place - 1] = rng.integers(256)
            hostile.append((topic, bytes(damaged)))
    for topic, data in hostile:
        shown.clear()
        topic._take(data)
        viewer._image._take(image)
        start = time.monotonic()
        viewer._show_newest()
        assert shown == [(HEIGHT, WIDTH, 3)]
        assert len(viewer._problem) <= MAX_WARNING_LENGTH
        assert time.monotonic() - start < 2
    viewer._depth._take(serialize_message(Image(encoding='rgb8')))
    viewer._show_newest()
    assert viewer._problem.startswith('/depth/image is not shown: encoding')
    assert capfd.readouterr().err.count('is not shown') < 5  # throttled


def test_opening_it_up_is_warned_about(capfd):
    graph = Graph(QoSProfile(depth=1), host='0.0.0.0')
    graph.close()
    assert 'anybody who reaches port' in capfd.readouterr().err


def test_a_click_reaches_the_depth_node(graph):
    told = []

    def take(request, response):
        told.extend((entry.name, Parameter.from_parameter_msg(entry).value)
                    for entry in request.parameters)
        response.results = [SetParametersResult(successful=True) for _ in request.parameters]
        return response

    def calibrate(request, response):
        response.message = 'multiplied by 0.9'
        return response
    graph.viewer._depth_size = WIDTH, HEIGHT
    assert 'set the viewer' in graph.viewer._calibrate(0.5, 0.5, 1.53).result(1)
    node = rclpy.create_node('depth_node', context=graph.context, start_parameter_services=False)
    node.create_service(SetParameters, 'depth_node/set_parameters', take)
    node.create_service(Trigger, 'depth_node/calibrate_scale', calibrate)
    graph.executor.add_node(node)
    assert wait_for(lambda: graph.viewer._calibrate_scale.service_is_ready()
                    and graph.viewer._set_parameters.service_is_ready())
    time.sleep(0.5)  # the service must know its client too
    assert graph.viewer._calibrate(0.5, 1.0, 1.53).result(20) == 'multiplied by 0.9'
    assert told == [('measured_distance', 1.53), ('measured_pixel', f'{WIDTH / 2 - 0.5:.0f} 47')]
    graph.executor.remove_node(node)
    node.destroy_node()


def test_uncertainty_is_shown_with_the_depth_that_it_is_of(graph):
    shown = []
    graph.page.show_depth = lambda depth, sigma=None: shown.append(sigma)

    def header(seconds):
        return Header(stamp=Time(sec=seconds), frame_id='camera')
    sigma = (0.2 * DEPTH).astype(np.float32)
    graph.viewer._keep_sigma(depth_to_image(sigma, header(5), '32FC1'))
    for seconds, depth in ((5, DEPTH), (7, DEPTH), (5, DEPTH[1:])):
        graph.viewer._show_depth(depth_to_image(depth, header(seconds), '32FC1'))
    np.testing.assert_array_equal(shown[0], sigma)
    assert shown[1:] == [None, None]
