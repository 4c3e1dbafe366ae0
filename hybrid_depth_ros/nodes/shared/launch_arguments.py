"""What the launch files share: arguments with their values, and nodes that take them."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, List, NamedTuple  # noqa: UP035

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hybrid_depth_ros.anchors.source import source_kind
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.nodes.shared.run_node import fast_dds_environment
from hybrid_depth_ros.poses import read_pose


class Argument(NamedTuple):
    """One argument of a launch file; `choices`: the values allowed, empty: any."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


Values = Mapping[str, Any]  # of the arguments, by name

PACKAGE = 'hybrid_depth_ros'
CONFIG = Path(get_package_share_directory(PACKAGE)) / 'config'
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
COMMON_ARGUMENTS = (  # of every launch file
    Argument('anchors', '', 'what measures true distances: scan, points, range, depth, floor, '
             'motion, with commas between; empty: as in params_file'),
    Argument('scan', 'scan', 'LaserScan topic to listen to with anchors:=scan'),
    Argument('points', 'points', 'PointCloud2 topic to listen to with anchors:=points'),
    Argument('range', 'range', 'Range topic to listen to with anchors:=range'),
    Argument('depth', 'depth_registered', 'Image topic of registered depth to listen to with '
             'anchors:=depth'),
    Argument('odometry', 'odom', 'Odometry topic to listen to with anchors:=motion, where TF has '
             'no poses'),
    Argument('anchor_poses', '', 'x y z roll pitch yaw of the sensors seen from the camera (m, '
             'degrees), with ; between those of several; empty: by TF, or as in params_file'),
    Argument('camera_height', '', 'm above the floor, for anchors:=floor; empty: by TF, or as in '
             'params_file'),
    Argument('camera_pitch', '', 'degrees that the camera looks down; empty: as in params_file'),
    Argument('camera_roll', '', 'degrees that it is turned clockwise, as seen from behind; '
             'empty: as in params_file'),
    Argument('weights', '', 'registered name or file of the weights; empty: as in params_file'),
    Argument('device', '', 'auto, cpu, cuda or cuda:N; empty: as in params_file'),
    Argument('params_file', str(CONFIG / 'depth.yaml'), 'parameters of the nodes: a file, or the '
             "name of one in this package's config, as nav2_obstacles.yaml"),
    Argument('viewer', 'rviz', 'rviz, web (a page in the browser) or none',
             choices=('rviz', 'web', 'none')),
    Argument('rviz_config', '', "what RViz shows; empty: this package's displays"),
    Argument('use_sim_time', 'false', 'follow /clock; true with a bag',
             choices=('true', 'false', 'True', 'False')),
    Argument('log_level', 'info', 'debug, info, warn, error or fatal',
             choices=(*LOG_LEVELS, *map(str.upper, LOG_LEVELS))),
)


def depth_parameters(given: Values) -> dict[str, Any]:
    """Return the depth node's parameters for the arguments.

    Lists may stand in brackets, as behind -p.

    Raises:
        RuntimeError: For what is no number, no kind of anchors, no pose: the node would die of it,
            again and again.
    """
    parameters: dict[str, Any] = {
        name: given[name] for name in ('weights', 'device', 'image_transport') if given.get(name)}
    lists: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ('anchors', ',', source_kind), ('anchor_poses', ';', read_pose))
    for name, separator, check in lists:
        if text := given[name].strip():
            try:
                parts = ((yaml.safe_load(text) or ['']) if text[0] == '[' else
                         text.split(separator))
                parameters[name] = [str(part).strip(' \'"') for part in parts]
                for part in parameters[name]:
                    check(part)
            except yaml.YAMLError:
                raise RuntimeError(f'{name} is {text!r}, which is no list in YAML') from None
            except ValueError as error:
                raise RuntimeError(str(error)) from None
    parameters.update({name: parse_number(given, name) for name in (
        'camera_height', 'camera_pitch', 'camera_roll') if given[name]})
    return parameters


def installed(package: str) -> bool:
    """Whether a ROS package is there."""
    try:
        return bool(get_package_share_directory(package))
    except PackageNotFoundError:
        return False


def find_file(argument: str, name: str) -> str:
    """Return the file that an argument names, or this package's own of that name.

    Raises:
        RuntimeError: Where there is none, or it is no YAML: each node would die of it, again and
            again.
    """
    path = expand_user(name)
    own = CONFIG / name.removeprefix('config/')
    if not path.is_file() and name and own.is_file():
        path = own
    try:
        for _ in yaml.parse(path.read_text(), yaml.SafeLoader):
            pass
    except OSError as error:
        raise RuntimeError(f'{argument} is {name!r}: {error.strerror}; name a file, or one of '
                           + ', '.join(sorted(file.name for file in CONFIG.iterdir()
                                              if file.suffix == Path(own).suffix))) from None
    except (ValueError, yaml.YAMLError) as error:
        raise RuntimeError(f'{argument} is {name!r}, which is no YAML: '
                           + ' '.join(str(error).split())) from None
    return str(path)


def parse_number(given: Values, name: str, expected: str = 'a number') -> float:
    """Return the value of an argument.

    Raises:
        RuntimeError: Where it is no number; says what was `expected`.
    """
    try:
        return float(given[name])
    except ValueError:
        raise RuntimeError(f'{name} is {given[name]!r}; it must be {expected}') from None


def check_name(argument: str, name: str) -> None:
    """Check that ROS takes the value of an argument for a name.

    Raises:
        RuntimeError: Where it doesn't: the node would die of it, again and again.
    """
    if not re.fullmatch(r'(~?/)?[a-z_]\w*(/[a-z_]\w*)*', name, re.ASCII | re.IGNORECASE):
        raise RuntimeError(f'{argument} is {name!r}; a name has letters, digits, _ and /, and no '
                           'part of it begins with a digit or is empty')


def camera_info_topic(given: Values, image: str) -> str:
    """Return the camera_info topic: as it was given, or beside the images, as drivers have it."""
    return given['camera_info'] or f'{image.rpartition("/")[0]}/camera_info'.removeprefix(
        '' if image.startswith('/') else '/')


def depth_topics(given: Values, image: str) -> list[tuple[str, str]]:
    """Return remappings of one of the depth node's cameras, from its own names to the topics.

    Args:
        given: The arguments' values.
        image: Topic of the camera's images.

    Raises:
        RuntimeError: For what is no name of a topic.
    """
    camera_info = camera_info_topic(given, image)
    for name, topic in (('image', image), ('camera_info', camera_info), *(
            (name, given[name]) for name in ('scan', 'points', 'range', 'depth', 'odometry'))):
        check_name(name, topic)
    if image.endswith('/compressed'):
        raise RuntimeError(f'image is {image!r}: give image:={image.removesuffix("/compressed")} '
                           'image_transport:=compressed')
    return [('image', image), ('image/compressed', f'{image}/compressed'),
            ('camera_info', camera_info),
            *((f'anchors/{kind}', given[kind]) for kind in ('scan', 'points', 'range', 'depth')),
            ('anchors/motion', given['odometry'])]


def text_parameter(value: Any) -> Any:
    """Make a parameter's value one that launch leaves as it is; it reads texts as YAML.

    Raises:
        RuntimeError: For 1e5, y and the like: launch writes them without quotes, and ROS reads no
            text.
    """
    if isinstance(value, str):
        if re.fullmatch('y|n|[-+]?(nan|inf|infinity|[0-9]+e[-+]?[0-9]+)', value, re.IGNORECASE):
            raise RuntimeError(f'{value} would not arrive as a text: write ./{value} where it is a '
                               'file, or give it another name')
        return ParameterValue(value, value_type=str)
    if isinstance(value, list):
        return ParameterValue(value, value_type=List[str])  # noqa: UP006 launch wants this form
    return value


def launch_description(arguments: Iterable[Argument], start: Callable[[dict[str, Any]], list[Any]]
                       ) -> LaunchDescription:
    """Make the LaunchDescription of a launch file.

    Args:
        arguments: As ``COMMON_ARGUMENTS``.
        start: Takes the values by name, texts but for the bool use_sim_time; returns what is
            launched. Raises RuntimeError where they will not do.
    """
    arguments = tuple(arguments)

    def perform(context: Any) -> list[Any]:
        given = {argument.name: LaunchConfiguration(argument.name).perform(context)
                 for argument in arguments}
        given['params_file'] = find_file('params_file', given['params_file'])
        if 'ros__parameters:' not in Path(given['params_file']).read_text():
            raise RuntimeError(f'params_file is {given["params_file"]!r}, which has no '
                               'ros__parameters: see docs/parameters.md for its form')
        if given['rviz_config']:
            given['rviz_config'] = find_file('rviz_config', given['rviz_config'])
        if given.get('bag'):
            given['bag'] = str(expand_user(given['bag']))
        return start({**given, 'use_sim_time': given['use_sim_time'].lower() == 'true'})
    return LaunchDescription([
        *(DeclareLaunchArgument(argument.name, default_value=argument.default,
                                description=argument.description,
                                choices=list(argument.choices) or None)
          for argument in arguments),
        *(SetEnvironmentVariable(*variable) for variable in fast_dds_environment().items()),
        OpaqueFunction(function=perform)])


def package_node(given: Values, executable: str, parameters: Mapping[str, Any] | None = None,
                 package: str = PACKAGE, action: type[Node] = Node, **options: Any) -> Node:
    """Describe a node with the parameters of params_file, and these on top.

    Args:
        given: The arguments' values.
        executable: Its name.
        parameters: By name.
        package: That holds the executable.
        action: Of launch_ros; LifecycleNode needs a `name`.
        options: Of the action.
    """
    own = {name: text_parameter(value) for name, value in (parameters or {}).items()}
    return action(package=package, executable=executable,
                  parameters=[given['params_file'], {'use_sim_time': given['use_sim_time'], **own}],
                  ros_arguments=['--log-level', given['log_level']], **options)


def depth_node(given: Values, parameters: Mapping[str, Any] | None = None, **options: Any) -> Node:
    """Describe the depth node, started again where it dies; arguments as of package_node."""
    return package_node(given, 'depth_node', {**depth_parameters(given), **(parameters or {})},
                        respawn=True, respawn_delay=2.0, **options)
