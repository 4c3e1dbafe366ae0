"""Compressed depth, depth in colours, confidence, and what a border changes of them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
from graph import CAMERA, CHART
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from stub_depth_node import HEIGHT, WIDTH, scene_depth

from hybrid_depth_ros import predictor
from hybrid_depth_ros.border import DECISIVE_FRAMES
from hybrid_depth_ros.compressed_depth import compressed_to_depth
from hybrid_depth_ros.encodings import compressed_to_rgb, depth_to_millimetres, image_to_depth
from hybrid_depth_ros.nodes.depth.compressed_images import CompressedDepthImages
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import depth_to_image, rgb_to_image
from hybrid_depth_ros.point_cloud import cloud_to_array
from hybrid_depth_ros.predictor import Prediction


class Publisher:
    """Keeps what it is given; so many listen to it."""

    def __init__(self, topic):
        self.topic, self.listeners, self.messages = topic, 1, []
        self.publish = self.messages.append

    def get_subscription_count(self):
        return self.listeners


def remapped(name, only_expand=False):
    """As a node resolves names that is told depth/image:=/front/depth."""
    return '/front/depth' if name == 'depth/image' and not only_expand else f'/{name}'


def compressed_images():
    node = SimpleNamespace(resolve_topic_name=remapped)
    images = CompressedDepthImages(node, '', lambda kind, topic: Publisher(topic))
    return images, *images.publishers


def test_topics_follow_the_image_s_as_image_transport_names_them():
    _, depth, colours = compressed_images()
    assert depth.topic == '/front/depth/compressedDepth'
    assert colours.topic == '/depth/image_color/compressed'


@pytest.mark.parametrize(('encoding', 'form'), [
    ('32FC1', 'png'), ('16UC1', 'rvl'), ('16UC1', 'png')])
def test_depth_is_compressed_as_the_parameters_say(encoding, form):
    images, depth, colours = compressed_images()
    true = scene_depth(WIDTH, HEIGHT)
    true[:5] = np.nan
    header = Header(frame_id='camera')
    images.publish(Prediction(true, True), header, DepthSettings(
        depth_encoding=encoding, compressed_depth_format=form))
    message, = depth.messages
    assert (message.format, message.header) == (f'{encoding}; compressedDepth {form}', header)
    np.testing.assert_allclose(compressed_to_depth(message), true, rtol=1e-3)

    message, = colours.messages
    assert message.format == 'rgb8; jpeg compressed bgr8'
    rgb = compressed_to_rgb(message).astype(int)
    assert rgb[:3].max() < 30  # unknown
    near, far = (rgb[np.unravel_index(index, true.shape)] for index in (
        np.nanargmin(true), np.nanargmax(true)))
    assert near[0] - near[2] > far[0] - far[2]  # warm is near
    depth.listeners = colours.listeners = 0
    images.publish(Prediction(true, True), header, DepthSettings())
    assert len(depth.messages) == len(colours.messages) == 1


def test_millimetres_are_made_once_for_all_who_send_them(monkeypatch):
    made = []

    def count(depth):
        made.append(depth)
        return depth_to_millimetres(depth)
    monkeypatch.setattr(predictor, 'depth_to_millimetres', count)
    metres, header = Prediction(scene_depth(WIDTH, HEIGHT), True), Header()
    image = depth_to_image(metres.encoded('16UC1'), header, '16UC1')
    assert image == depth_to_image(metres.depth, header, '16UC1')
    images, depth, _ = compressed_images()
    images.publish(metres, header, DepthSettings(depth_encoding='16UC1', depth_max=2.0))
    assert len(made) == 1
    near = np.where(metres.depth <= 2.0005, metres.depth, np.nan)
    np.testing.assert_allclose(compressed_to_depth(depth.messages[0]), near, atol=6e-4)
    assert metres.encoded('32FC1') is metres.depth
    assert image_to_depth(image).max() > 2  # what depth_max removed is gone from one alone


@pytest.mark.parametrize('graph', [
    {'arguments': ('-p', 'cloud_confidence:=true', '-p', 'edge_filter:=0.0')}], indirect=True)
def test_a_letterboxed_camera_over_dds(graph):
    """Of its bars nothing is known, of the scene between them all that was known before."""
    for kind, topic in ((PointCloud2, 'depth/points'), (Image, 'depth/image'),
                        (CompressedImage, 'depth/image/compressedDepth'),
                        (CameraInfo, 'depth/camera_info')):
        graph.listen(kind, topic)
    graph.ready()
    bar = 20
    image = cv2.copyMakeBorder(CHART[bar:-bar], bar, bar, 0, 0, cv2.BORDER_CONSTANT,
                               value=(70, 70, 70))
    for _ in range(DECISIVE_FRAMES):
        message = rgb_to_image(image, graph.header())
        depth = image_to_depth(graph.answer('depth/image', message))
    scene = scene_depth(WIDTH, HEIGHT - 2 * bar)  # what the stub says of an image of this size
    assert np.isnan(depth[:bar]).all() and np.isnan(depth[-bar:]).all()
    np.testing.assert_array_equal(depth[bar:-bar], scene)

    def same(topic):
        assert graph.spin(5, lambda: any(
            m.header == message.header for m in graph.got[topic])), topic
        return graph.got[topic][-1]
    packed = compressed_to_depth(same('depth/image/compressedDepth'))
    np.testing.assert_allclose(packed, depth, rtol=1e-3)
    message_of_cloud = same('depth/points')
    assert [field.name for field in message_of_cloud.fields] == ['x', 'y', 'z', 'rgb', 'intensity']
    cloud = cloud_to_array(message_of_cloud)
    np.testing.assert_array_equal(cloud['z'], depth)
    intensity = np.frombuffer(message_of_cloud.data, np.float32).reshape(HEIGHT, WIDTH, 5)[..., 4]
    np.testing.assert_allclose(intensity[bar:-bar, :WIDTH // 2], 0.9, rtol=1e-5)
    np.testing.assert_allclose(intensity[bar:-bar, WIDTH // 2:], 0.6, rtol=1e-5)
    info = same('depth/camera_info')  # of the whole image, which nobody crops or bins
    assert (info.width, info.height) == (WIDTH, HEIGHT) and info.k[0] == CAMERA.fx
    roi = info.roi
    assert not (info.binning_x or info.binning_y or roi.width or roi.height or roi.x_offset
                or roi.y_offset or roi.do_rectify)
