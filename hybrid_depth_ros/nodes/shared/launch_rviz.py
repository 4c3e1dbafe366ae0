"""RViz for the launch files: its displays, its fixed frame, and what to do where it can't be."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml
from launch.actions import LogInfo
from launch_ros.actions import Node

from hybrid_depth_ros.nodes.shared.launch_arguments import CONFIG, installed, package_node
from hybrid_depth_ros.poses import BODY_IN_OPTICAL, quaternion_from_pose

CONFIG_FILE = CONFIG / 'depth.rviz'
DISPLAYS = ('DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM')  # one of them is set where Qt draws
TO_OPTICAL = {'roll': -1.5707963, 'yaw': -1.5707963}  # from a body frame's axes (REP 103)
ALL_CAMERAS = 'cameras'  # fixed frame of several whose poses nobody knows
APART = 6.0  # metres between their clouds
ROOM_HEIGHT = 1.4  # metres that the virtual room's camera is above the floor
IN_BROWSER = 'viewer:=web shows the same in a browser'


def body_frame_of(optical_frame: str) -> str:
    """Return a name for the body frame (x forward, z up, REP 103) at an optical frame."""
    return optical_frame.removesuffix('_frame').removesuffix('_optical') + '_body'


def static_transform(given: Mapping[str, Any], parent: str, child: str,
                     numbers: Mapping[str, float], **options: Any) -> Node:
    """Describe a publisher of a static transform.

    Args:
        given: The arguments' values.
        parent: Its frame.
        child: The other frame.
        numbers: Options of static_transform_publisher, as x or qw.
        options: Of launch_ros' Node.
    """
    return package_node(
        given, 'static_transform_publisher', package='tf2_ros', **options, arguments=[
            '--frame-id', parent, '--child-frame-id', child,
            *(word for name, value in numbers.items() for word in (f'--{name}', f'{value:.7f}'))])


def body_transform(given: Mapping[str, Any], optical_frame: str, **options: Any) -> Node:
    """Describe the body frame as a child of the optical one: a driver's own tree stays whole."""
    rotation = dict(zip(('qx', 'qy', 'qz', 'qw'), quaternion_from_pose(BODY_IN_OPTICAL)))
    return static_transform(given, optical_frame, body_frame_of(optical_frame), rotation, **options)


def rviz_configuration(cameras: Sequence[str] = ('',), anchors: bool = False,
                       compressed: bool = False, floor: float = 0.0, width: float = 0.0
                       ) -> dict[str, Any]:
    """Return what RViz shows, as its files hold it.

    Args:
        cameras: Names of the cameras; one empty name: a single camera without a namespace.
        anchors: Whether there are anchors to be shown.
        compressed: Whether the images come compressed.
        floor: z of the grid in the fixed frame, metres.
        width: How far to the right cameras stand side by side, metres: all are in view.
    """
    configuration: dict[str, Any] = yaml.safe_load(CONFIG_FILE.read_text())
    manager, displays = configuration['Visualization Manager'], []
    for display in manager['Displays']:
        topic = display.get('Topic', {}).get('Value', '')
        if display['Name'] == 'Grid':
            display['Offset']['Z'] = floor
        if topic == '/depth/anchors':
            display['Enabled'] = display['Value'] = anchors
        if topic == '/image_raw' and compressed:
            display['Topic']['Value'] += '/compressed'
        if not topic or list(cameras) == ['']:
            displays.append(display)
        elif not display['Class'].endswith('/Image'):  # of several cameras the clouds alone
            for name in cameras:
                displays.append(deepcopy(display))
                displays[-1]['Name'] += f', {name}'
                displays[-1]['Topic']['Value'] = f'/{name}{topic}'
    manager['Displays'] = displays
    view = manager['Views']['Current']
    view['Focal Point']['Y'] -= width / 2
    view['Distance'] += width
    return configuration


def rviz(given: Mapping[str, Any], fixed_frame: str, topics: Mapping[str, str],
         configuration: Mapping[str, Any], **options: Any) -> list[Any]:
    """Describe RViz, or say why there is none.

    Args:
        given: The arguments' values.
        fixed_frame: RViz's.
        topics: Names that the displays' topics get, by those in `configuration`.
        configuration: As of :func:`rviz_configuration`; rviz_config, where it is given, goes first.
        options: Of launch_ros' Node.
    """
    if not installed('rviz2'):
        return [LogInfo(msg='rviz2 is not installed: nothing is shown. Install it (apt install '
                        f'ros-$ROS_DISTRO-rviz2), or {IN_BROWSER}')]
    if not any(os.environ.get(name) for name in DISPLAYS):
        return [LogInfo(msg='there is no screen here (DISPLAY and WAYLAND_DISPLAY are empty), so '
                        f'RViz is not started: {IN_BROWSER}')]

    def ended(event: Any, context: Any) -> list[Any]:
        return [LogInfo(msg=f'RViz ended with {event.returncode}: where it can\'t draw on the '
                        f'screen, {IN_BROWSER}')
                ] if event.returncode and not context.is_shutdown else []
    file = given['rviz_config']
    if not file:
        with tempfile.NamedTemporaryFile('w', prefix='depth_', suffix='.rviz',
                                         delete=False) as written:
            yaml.safe_dump(dict(configuration), written, sort_keys=False)
        file = written.name
    return [Node(
        package='rviz2', executable='rviz2', parameters=[{'use_sim_time': given['use_sim_time']}],
        arguments=['-d', file, '-f', fixed_frame], on_exit=ended,
        remappings=[*topics.items(), *options.pop('remappings', ())], **options)]
