"""A page, and a viewer with who publishes its topics."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')

from rclpy.qos import QoSProfile
from viewer_graph import Graph

from hybrid_depth_ros.nodes.viewer.page import Page


@pytest.fixture
def page():
    page = Page('127.0.0.1', 0)
    yield page
    page.close()


@pytest.fixture
def graph(request):
    given = getattr(request, 'param', {})  # parameters, or the images' QoS
    graph = (Graph(QoSProfile(depth=1), **given) if isinstance(given, dict) else Graph(given))
    yield graph
    graph.close()
