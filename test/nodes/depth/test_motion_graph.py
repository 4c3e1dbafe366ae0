"""Depth by motion over DDS: a walk through the virtual room, poses by nav_msgs/Odometry."""

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('nav_msgs')

from graph import value
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.shared.messages import rgb_to_image
from hybrid_depth_ros.point_cloud import cloud_to_array
from hybrid_depth_ros.poses import quaternion_from_pose
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics(320, 240, 262.5, 262.5, 159.5, 119.5)
FRAMES = 10
FAR = 2.0  # what the stub's depth is multiplied by: a network that sees all too far


def odometry(header, pose, length=1.0):
    message = Odometry(header=Header(stamp=header.stamp, frame_id='odom'),
                       child_frame_id=header.frame_id)
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = (length * pose[:3, 3]).tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion_from_pose(pose)
    return message


def walk(graph, length=1.0):
    """The clouds of anchors along 0.5 m, each with the true depth of its image."""
    room, publisher = Room(1), graph.node.create_publisher(Odometry, 'anchors/motion', 10)
    graph.listen(Image, 'depth/image')
    graph.listen(PointCloud2, 'depth/anchors')
    graph.ready()
    graph.ready(publisher)
    found = []
    for number in range(FRAMES):
        pose = room.camera_pose(0.6 * number)
        rgb, depth = room.render(CAMERA, pose)
        header = graph.header()
        header.frame_id = 'camera'
        publisher.publish(odometry(header, pose, length))
        before = len(graph.got['depth/anchors'])
        assert graph.answer('depth/image', rgb_to_image(rgb, header), CAMERA)
        graph.spin(0.3, lambda before=before: len(graph.got['depth/anchors']) > before)
        if len(graph.got['depth/anchors']) > before:
            found.append((cloud_to_array(graph.got['depth/anchors'][-1]), depth))
    return found


MOTION = {'arguments': ('-p', 'anchors:=[motion]', '-p', 'latency_warning:=0.0'), 'scale': FAR}


@pytest.mark.parametrize('graph', [MOTION], indirect=True)
def test_odometry_and_images_give_distances(graph):
    found = walk(graph)
    assert len(found) >= 4, graph.log.read_text()
    points, depth = found[-1]
    x, y, z = (points[name].ravel() for name in 'xyz')
    truth = cv2.remap(depth, (x / z * CAMERA.fx + CAMERA.cx).astype(np.float32),
                      (y / z * CAMERA.fy + CAMERA.cy).astype(np.float32), cv2.INTER_NEAREST)
    assert z.size > 60
    assert abs(np.median(np.log(z / truth.ravel()))) < 0.05
    status = graph.diagnosis(lambda status: value(status, 'anchors/motion'))['depth']
    assert 'Hz' in value(status, 'anchors/motion')


@pytest.mark.parametrize('graph', [MOTION], indirect=True)
def test_poses_that_stand_still_are_named(graph):
    walk(graph, length=0.0)
    assert 'the image moves otherwise than the poses' in graph.log.read_text()
