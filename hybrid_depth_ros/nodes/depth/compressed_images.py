"""The depth image in smaller forms, for recordings and for who looks from afar."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from hybrid_depth_ros.compressed_depth import encode_compressed_depth
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import compressed_message
from hybrid_depth_ros.nodes.shared.subscription import transport_topic
from hybrid_depth_ros.predictor import Prediction
from hybrid_depth_ros.visualization import colour_depth

COLOUR_RANGE = (0.3, 10.0)  # metres from warm to cold, by their logarithm: nobody's frame flickers
JPEG_QUALITY = 80


class CompressedDepthImages:
    """Publishes ``depth/image/compressedDepth`` and ``depth/image_color/compressed`` of a camera.

    The names and formats are those of compressed_depth_image_transport and of
    compressed_image_transport.

    Args:
        node: The depth node.
        prefix: Of the topics, the camera's namespace with a slash, or empty.
        publisher: Makes a publisher of a message's class and a topic's name.
    """

    def __init__(self, node: Node, prefix: str,
                 publisher: Callable[[type[Any], str], Publisher]) -> None:
        self._depth = publisher(
            CompressedImage, transport_topic(node, prefix + 'depth/image', 'compressedDepth'))
        self._colours = publisher(
            CompressedImage, transport_topic(node, prefix + 'depth/image_color', 'compressed'))
        self.publishers = self._depth, self._colours

    def publish(self, metres: Prediction, header: Header, settings: DepthSettings) -> None:
        """Send those that somebody listens to, of depth in metres."""
        if self._depth.get_subscription_count():
            self._depth.publish(compressed_message(header, *encode_compressed_depth(
                metres.encoded(settings.depth_encoding), settings.depth_encoding,
                settings.compressed_depth_format,
                settings.depth_max, settings.depth_quantization)))
        if self._colours.get_subscription_count():
            self._colours.publish(compressed_message(
                header, 'rgb8; jpeg compressed bgr8', _coloured_jpeg(metres.depth)))


def _coloured_jpeg(depth: npt.NDArray[np.float32]) -> bytes:
    with np.errstate(invalid='ignore', divide='ignore'):
        colours = colour_depth(np.log(depth), *np.log(COLOUR_RANGE, dtype=np.float32).tolist())
    _, data = cv2.imencode('.jpg', cv2.cvtColor(colours, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()
