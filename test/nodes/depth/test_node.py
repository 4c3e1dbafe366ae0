"""The depth node over DDS, in a process of its own, with a predictor whose scene is known."""

import struct

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from graph import CAMERA, CHART
from rcl_interfaces.srv import DescribeParameters
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from stub_depth_node import (
    CX,
    CY,
    FX,
    FY,
    HEIGHT,
    PLANE_DISTANCE,
    PLANE_NORMAL,
    SPHERE_CENTRE,
    SPHERE_RADIUS,
    WIDTH,
    scene_depth,
)

from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.nodes.depth.node import SETTINGS
from hybrid_depth_ros.nodes.shared.messages import camera_info_message, rgb_to_image
from hybrid_depth_ros.outlines import snap_edges


def points_of(cloud):
    """x, y, z and r, g, b of a PointCloud2, read field by field as a stranger would."""
    offsets = {field.name: (field.offset, field.datatype) for field in cloud.fields}
    assert {name: kind for name, (_, kind) in offsets.items()} == dict.fromkeys(
        ('x', 'y', 'z', 'rgb'), 7)
    data = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.row_step)
    data = data[:, :cloud.width * cloud.point_step].reshape(
        cloud.height, cloud.width, cloud.point_step)

    def field(name, kind):
        at = offsets[name][0]
        return data[..., at:at + 4].copy().view(kind)[..., 0]
    xyz = np.stack([field(axis, '<f4') for axis in 'xyz'], axis=-1).astype(float)
    packed = field('rgb', '<u4')
    return xyz, np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)


@pytest.mark.parametrize('graph', [{'arguments': ('-p', 'edge_filter:=0.0')}], indirect=True)
def test_cloud_lies_on_the_plane_and_the_sphere(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.listen(Image, 'depth/image')
    graph.listen(CameraInfo, 'depth/camera_info')
    graph.ready()
    message = rgb_to_image(CHART, graph.header())
    cloud = graph.answer('depth/points', message)
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert cloud.header == message.header
    xyz, colours = points_of(cloud)
    from_plane = np.abs(xyz @ PLANE_NORMAL - PLANE_DISTANCE)
    from_sphere = np.abs(np.linalg.norm(xyz - SPHERE_CENTRE, axis=-1) - SPHERE_RADIUS)
    assert np.minimum(from_plane, from_sphere).max() < 1e-3
    assert (from_sphere < 1e-3).sum() > 1000
    assert (from_plane < 1e-3).sum() > 10000
    # the sphere lies right of and below the middle: nothing is transposed or mirrored
    rows, columns = np.nonzero(from_sphere < 1e-3)
    assert columns.mean() > CX
    assert rows.mean() > CY
    np.testing.assert_array_equal(colours, CHART)

    graph.spin(2, lambda: graph.got['depth/image'] and graph.got['depth/camera_info'])
    depth, info = graph.got['depth/image'][0], graph.got['depth/camera_info'][0]
    assert depth.header == info.header == message.header
    assert depth.encoding == '32FC1'
    np.testing.assert_array_equal(image_to_depth(depth), scene_depth(WIDTH, HEIGHT))
    np.testing.assert_allclose(info.k, CAMERA.matrix.ravel())
    assert (info.width, info.height) == (WIDTH, HEIGHT)


def test_uncertainty_is_sent_and_limits_depth(graph):
    graph.listen(Image, 'depth/uncertainty')
    graph.listen(Image, 'depth/image')
    graph.ready()
    message = rgb_to_image(CHART, graph.header())
    sigma = graph.answer('depth/uncertainty', message)
    assert sigma.encoding == '32FC1' and sigma.header == message.header
    true = scene_depth(WIDTH, HEIGHT)
    share = np.where(np.arange(WIDTH) < WIDTH // 2, 0.1, 0.4)
    np.testing.assert_allclose(image_to_depth(sigma), share * true, rtol=1e-5)
    assert np.isfinite(image_to_depth(graph.answer('depth/image', message))).all()
    assert graph.set_parameter('max_uncertainty', 0.3).successful
    depth = image_to_depth(graph.answer('depth/image', rgb_to_image(CHART, graph.header())))
    assert np.isnan(depth[:, WIDTH // 2:]).all()
    np.testing.assert_array_equal(depth[:, :WIDTH // 2], true[:, :WIDTH // 2])
    assert not graph.set_parameter('max_uncertainty', -0.1).successful


def test_clouds_are_thinned_as_asked(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.ready()

    def cloud():
        return graph.answer('depth/points', rgb_to_image(CHART, graph.header()))
    xyz, _ = points_of(cloud())
    depth = scene_depth(WIDTH, HEIGHT)
    np.testing.assert_array_equal(xyz[..., 2], snap_edges(depth, 0.05))
    assert 0 < (xyz[..., 2] != depth).mean() < 0.1  # the sphere's outline
    assert graph.set_parameter('edge_filter', 0.0).successful
    whole, _ = points_of(cloud())
    for name, value in (('cloud_stride', 4), ('max_range', 2.4)):
        assert graph.set_parameter(name, value).successful
    assert not graph.set_parameter('min_range', 2.5).successful
    message = cloud()
    assert (message.height, message.width) == (HEIGHT // 4, WIDTH // 4)
    xyz, _ = points_of(message)
    np.testing.assert_array_equal(
        np.isfinite(xyz[..., 2]), np.linalg.norm(whole[::4, ::4], axis=-1) <= 2.4)
    assert graph.set_parameter('voxel_size', 0.2).successful
    message = cloud()
    assert message.height == 1
    assert np.isfinite(points_of(message)[0]).all()
    assert 10 < message.width < HEIGHT * WIDTH / 16


def encoded(encoding, header):
    """CHART as an Image of the encoding, with padded rows where that is possible."""
    code = {
        'bgr8': cv2.COLOR_RGB2BGR, 'rgba8': cv2.COLOR_RGB2RGBA, 'bgra8': cv2.COLOR_RGB2BGRA,
        'mono8': cv2.COLOR_RGB2GRAY, 'mono16': cv2.COLOR_RGB2GRAY,
    }.get(encoding)
    if encoding.startswith('bayer'):
        pattern = encoding[6:10]
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for place, letter in enumerate(pattern):
            row, column = divmod(place, 2)
            pixels[row::2, column::2] = CHART[row::2, column::2, 'rgb'.index(letter)]
    elif encoding in ('yuv422', 'yuv422_yuy2', 'nv12'):
        yuv = cv2.cvtColor(CHART, cv2.COLOR_RGB2YUV_I420)
        luma = yuv[:HEIGHT]
        u = yuv[HEIGHT:HEIGHT * 5 // 4].reshape(HEIGHT // 2, WIDTH // 2)
        v = yuv[HEIGHT * 5 // 4:].reshape(HEIGHT // 2, WIDTH // 2)
        if encoding == 'nv12':
            pixels = np.vstack([luma, np.stack([u, v], -1).reshape(HEIGHT // 2, WIDTH)])
        else:
            pairs = np.empty((HEIGHT, WIDTH // 2, 4), np.uint8)
            y0, u_at, y1, v_at = (1, 0, 3, 2) if encoding == 'yuv422' else (0, 1, 2, 3)
            pairs[..., y0], pairs[..., y1] = luma[:, ::2], luma[:, 1::2]
            pairs[..., u_at], pairs[..., v_at] = u.repeat(2, 0), v.repeat(2, 0)
            pixels = pairs.reshape(HEIGHT, WIDTH * 2)
    else:
        pixels = CHART if code is None else cv2.cvtColor(CHART, code)
        if encoding == 'mono16':
            pixels = (pixels.astype(np.uint32) * 257).astype('>u2')
    data = pixels.reshape(pixels.shape[0], -1).view(np.uint8)
    if encoding != 'nv12':
        data = np.hstack([data, np.full((data.shape[0], 12), 77, np.uint8)])
    return Image(header=header, height=HEIGHT, width=WIDTH, encoding=encoding,
                 step=data.shape[1], data=data.tobytes(), is_bigendian=encoding == 'mono16')


def test_a_colour_chart_survives_every_encoding(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.ready()
    grey = cv2.cvtColor(cv2.cvtColor(CHART, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    centre = np.zeros((HEIGHT, WIDTH), bool)
    for y in (HEIGHT // 4, HEIGHT * 3 // 4):
        for x in range(WIDTH // 8, WIDTH, WIDTH // 4):
            centre[y - 10:y + 10, x - 10:x + 10] = True
    for encoding, tolerance in (
            ('rgb8', 0), ('bgr8', 0), ('rgba8', 0), ('bgra8', 0), ('mono8', 0), ('mono16', 0),
            ('yuv422', 6), ('yuv422_yuy2', 6), ('nv12', 6), ('bayer_rggb8', 0),
            ('bayer_bggr8', 0), ('bayer_gbrg8', 0), ('bayer_grbg8', 0)):
        cloud = graph.answer('depth/points', encoded(encoding, graph.header()))
        assert cloud is not None, (encoding, graph.log.read_text())
        _, colours = points_of(cloud)
        wanted = grey if encoding.startswith('mono') else CHART
        error = np.abs(colours[centre].astype(int) - wanted[centre]).max()
        assert error <= tolerance, (encoding, error)


@pytest.mark.parametrize('graph', [{'arguments': ('-p', 'image_transport:=compressed')}],
                         indirect=True)
def test_compressed_images(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.ready(graph.jpeg)
    for format_, suffix, tolerance in (('jpeg', '.jpg', 12), ('png', '.png', 0)):
        message = CompressedImage(header=graph.header(), format=format_, data=cv2.imencode(
            suffix, cv2.cvtColor(CHART, cv2.COLOR_RGB2BGR))[1].tobytes())
        cloud = graph.answer('depth/points', message, publisher=graph.jpeg)
        _, colours = points_of(cloud)
        assert np.abs(colours[20, 20::40].astype(int) - CHART[20, 20::40]).max() <= tolerance


@pytest.mark.parametrize('graph', [{'warnings_every': 0.1}], indirect=True)
def test_bad_frames_are_named_and_the_next_good_one_is_right(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.listen(Image, 'depth/image')
    graph.ready()

    def good(width=WIDTH, height=HEIGHT):
        rgb = np.zeros((height, width, 3), np.uint8)
        reply = graph.answer('depth/image', rgb_to_image(rgb, graph.header()), timeout=20.0)
        assert reply is not None, graph.log.read_text()
        np.testing.assert_allclose(image_to_depth(reply), scene_depth(width, height), rtol=1e-6)

    good()
    truncated = rgb_to_image(CHART, graph.header())
    truncated.data = truncated.data[:1000]
    bad = {
        'no pixels': Image(header=graph.header(), encoding='rgb8'),
        'is truncated': truncated,
        "'rgb9000'": Image(header=graph.header(), encoding='rgb9000', width=4, height=4, step=12,
                           data=bytes(48)),
    }
    for said, message in bad.items():
        graph.image.publish(message)
        assert graph.spin(10, lambda said=said: said in graph.log.read_text())
        good()
        assert all(depth.header.stamp != message.header.stamp for depth in graph.got['depth/image'])
    good(2 * WIDTH, 2 * HEIGHT)  # another resolution in mid-stream
    good(1, 1)
    good(3840, 2160)
    good()
    # its cloud, after the large one, so that none is still on its way
    assert graph.answer('depth/points', rgb_to_image(CHART, graph.header()), timeout=20.0)
    info = camera_info_message(CAMERA, graph.header())
    info.k[0] = info.p[0] = float('nan')
    graph.info.publish(info)
    graph.spin(0.3)
    graph.got['depth/points'].clear()
    message = rgb_to_image(CHART, graph.header())
    assert graph.answer('depth/image', message, camera=None, timeout=20.0) is not None
    graph.spin(0.5)
    assert not graph.got['depth/points']  # no cloud from nonsense
    assert 'fx is nan' in graph.log.read_text()
    assert graph.answer('depth/points', rgb_to_image(CHART, graph.header())) is not None


def test_without_camera_info_depth_flows_and_the_cloud_waits(graph):
    graph.listen(PointCloud2, 'depth/points')
    graph.listen(Image, 'depth/image')
    graph.ready()
    for _ in range(3):
        assert graph.answer('depth/image', rgb_to_image(CHART, graph.header()), None)
    assert not graph.got['depth/points']
    assert graph.log.read_text().count('horizontal_fov') == 1  # throttled
    assert graph.set_parameter('horizontal_fov', 60.0).successful
    cloud = graph.answer('depth/points', rgb_to_image(CHART, graph.header()), None)
    xyz, _ = points_of(cloud)
    slope = (xyz[0, -1, 0] / xyz[0, -1, 2] - xyz[0, 0, 0] / xyz[0, 0, 2])
    assert slope * WIDTH / (WIDTH - 1) == pytest.approx(2 * np.tan(np.deg2rad(30)), rel=1e-5)


def test_distorted_images_are_undistorted_first(graph):
    graph.listen(CameraInfo, 'depth/camera_info')
    graph.listen(PointCloud2, 'depth/points')
    graph.listen(Image, 'depth/image')
    graph.ready()
    info = camera_info_message(CAMERA, graph.header())
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    gradient = np.stack([x, 2 * y, x], axis=-1).astype(np.uint8)
    graph.info.publish(info)
    graph.spin(0.3)
    cloud = graph.answer('depth/points', rgb_to_image(gradient, graph.header()), None)
    _, colours = points_of(cloud)
    ideal = np.array([[[10.0, 10.0]], [[140.0, 100.0]], [[80.0, 60.0]]])
    rays = (ideal - [CX, CY]) / [FX, FY]
    r2 = (rays ** 2).sum(-1, keepdims=True)
    raw = rays * (1 - 0.3 * r2 + 0.1 * r2 ** 2) * [FX, FY] + [CX, CY]
    for (u, v), (wanted_x, wanted_y) in zip(ideal[:, 0].astype(int), raw[:, 0]):
        assert colours[v, u, 0] == pytest.approx(wanted_x, abs=1)
        assert colours[v, u, 1] / 2 == pytest.approx(wanted_y, abs=1)
    assert graph.got['depth/camera_info'][-1].d.tolist() == [0.0] * 5
    assert graph.set_parameter('rectify', 'never').successful
    cloud = graph.answer('depth/points', rgb_to_image(gradient, graph.header()), None)
    np.testing.assert_array_equal(points_of(cloud)[1], gradient)


def test_parameters_are_described_and_bad_values_refused(graph):
    described = graph.call(DescribeParameters, 'describe_parameters',
                           DescribeParameters.Request(names=[s.name for s in SETTINGS]))
    for setting, descriptor in zip(SETTINGS, described.descriptors):
        assert descriptor.name == setting.name
        assert setting.description in descriptor.description
        assert descriptor.read_only != setting.changeable
    for name, value, reason in (
            ('depth_encoding', 'float', '32FC1'), ('rectify', 'maybe', 'never'),
            ('horizontal_fov', 200.0, 'from 0.0 to 179.0 degrees'),
            ('horizontal_fov', 'wide', "is 'wide'; it must be a number with a point"),
            ('weights', 'other', 'other'),
            ('image_transport', 'compressed', 'may not change while the node runs'),
            ('fit', 'half', 'paper')):
        result = graph.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
    assert graph.set_parameter('depth_encoding', '16UC1').successful
    graph.listen(Image, 'depth/image')
    graph.ready()
    reply = graph.answer('depth/image', rgb_to_image(CHART, graph.header()))
    assert reply.encoding == '16UC1'
    first, = struct.unpack_from('<H', bytes(reply.data[:2]))
    assert first == round(scene_depth(WIDTH, HEIGHT)[0, 0] * 1000)


@pytest.mark.parametrize('graph', [{'seconds': 0.3}], indirect=True)
def test_the_newest_frame_wins(graph):
    latencies = []
    graph.got['depth/image'] = []
    graph.listen(DiagnosticArray, '/diagnostics')

    def take(message):
        sent = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        latencies.append(graph.node.get_clock().now().nanoseconds / 1e9 - sent)
    graph.node.create_subscription(Image, 'depth/image', take, QoSProfile(depth=10))
    graph.ready()
    message = rgb_to_image(CHART, graph.header())

    def publish():
        message.header.stamp = graph.node.get_clock().now().to_msg()
        graph.image.publish(message)
    timer = graph.node.create_timer(1 / 30, publish)  # against 3.3 Hz
    graph.spin(3.0)
    timer.cancel()
    graph.spin(2.0)
    assert 6 <= len(latencies) <= 12
    # a frame waits at most for the one before it: two predictions, and some slack
    assert np.median(latencies) < 0.75
    assert latencies[-1] < 0.9
    values = {v.key: v.value for v in graph.got['/diagnostics'][-1].status[0].values}
    assert int(values['dropped']) + int(values['published']) == int(values['received'])
    assert int(values['dropped']) > 60


def test_nothing_is_computed_that_nobody_listens_to(graph):
    graph.listen(DiagnosticArray, '/diagnostics')
    assert graph.spin(20, lambda: graph.got['/diagnostics'])
    graph.spin(0.5)
    assert graph.image.get_subscription_count() == 0  # it does not even take the images
    subscription = graph.listen(PointCloud2, 'depth/points', qos_profile_sensor_data)
    graph.ready()
    assert graph.answer('depth/points', rgb_to_image(CHART, graph.header()))
    graph.node.destroy_subscription(subscription)
    assert graph.spin(5, lambda: graph.image.get_subscription_count() == 0)


@pytest.mark.parametrize('graph', [{'arguments': (
    '-r', '__ns:=/front', '-r', 'image:=/cam/image_raw', '-r', 'camera_info:=/cam/info',
    '-p', 'qos_overrides./front/depth/image.publisher.reliability:=best_effort',
    '-p', 'qos_overrides./cam/image_raw.subscription.reliability:=reliable')}], indirect=True)
def test_namespaces_remaps_and_qos_overrides(graph):
    graph.image = graph.node.create_publisher(Image, '/cam/image_raw', 10)
    graph.info = graph.node.create_publisher(CameraInfo, '/cam/info', 10)
    graph.listen(Image, '/front/depth/image', qos_profile_sensor_data)
    graph.listen(PointCloud2, '/front/depth/points')
    graph.ready()
    beside = graph.node.create_publisher(CameraInfo, '/cam/camera_info', 10)
    assert graph.answer('/front/depth/image', rgb_to_image(CHART, graph.header()), camera=None)
    graph.diagnosis(lambda status: 'on /cam/info: remap camera_info to /cam/camera_info, which is '
                    'published' in status.message)
    graph.node.destroy_publisher(beside)
    assert graph.answer('/front/depth/points', rgb_to_image(CHART, graph.header()))
    published, = graph.node.get_publishers_info_by_topic('/front/depth/image')
    assert published.qos_profile.reliability.name == 'BEST_EFFORT'
    taken, = graph.node.get_subscriptions_info_by_topic('/cam/image_raw')
    assert taken.qos_profile.reliability.name == 'RELIABLE'
