"""nav2's layers as config/nav2_obstacles.yaml sets them: what marks, what clears, what stays."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from test_obstacles import CAMERA, DOWN, HEIGHT, scene

from hybrid_depth_ros.benchmark import costmap
from hybrid_depth_ros.benchmark.costmap import CELL, Costmap, level_cloud, scan_ends, vanish
from hybrid_depth_ros.floor_plane import FloorPlane
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = yaml.safe_load((ROOT / 'config' / 'nav2_obstacles.yaml').read_text())
COSTMAP = CONFIG['local_costmap']['local_costmap']['ros__parameters']
NODE = CONFIG['/**/depth_node']['ros__parameters']
BOX, LEVEL = (1.5, 0.2, -0.2, 0.5), FloorPlane.from_gravity(HEIGHT, DOWN)
SETTINGS = ObstacleSettings(NODE['min_obstacle_height'], NODE['max_obstacle_height'],
                            max_range=NODE['obstacle_max_range'])


def seen(grid, depth):
    """Update a grid by a depth image, as the obstacle layer of the file does."""
    layer = COSTMAP['obstacle_layer']
    marks, clears = (layer[name] for name in layer['observation_sources'].split())
    found = find_obstacles(depth, CAMERA, LEVEL, SETTINGS)
    angles = scan_angles(CAMERA, LEVEL, SETTINGS)
    grid.update(level_cloud(obstacle_cloud(found), LEVEL),
                   scan_ends(obstacle_scan(found, angles), angles.range_max),
                   marks['obstacle_max_range'], clears['raytrace_max_range'])
    return grid.lethal


def cell(x, y):
    return round((4 + x) / CELL - 0.5), round((4 + y) / CELL - 0.5)


def test_what_stands_there_is_marked_and_gone_with_the_next_update():
    grid = Costmap()
    lethal = seen(grid, scene([BOX]))
    assert lethal[cell(1.525, 0.0)] and 5 < lethal.sum() < 40
    assert not seen(grid, scene()).any()  # 0.2 s later, at 5 Hz


def test_what_is_unknown_clears_nothing():
    grid, depth = Costmap(), scene()
    before = seen(grid, scene([BOX]))
    depth[:] = np.nan
    np.testing.assert_array_equal(seen(grid, depth), before)


def test_what_is_hidden_stays():
    grid = Costmap()
    lethal = seen(grid, scene([(2.5, 0.1, -0.1, 0.5)]))
    behind = cell(2.525, 0.0)
    assert lethal[behind]
    lethal = seen(grid, scene([BOX]))
    assert lethal[behind] and lethal[cell(1.525, 0.0)]


def test_rays_of_voxels_clear_what_they_pass_and_no_more():
    grid = Costmap(levels=16, level_height=0.15, sensor_height=HEIGHT)
    marks = np.array([[1.5, 0.0, 0.2], [1.5, 0.0, 1.5]])
    ends = np.array([[3.0, 0.0, -0.2], [np.nan, 0, 0]])
    grid.update(marks, ends[:0], 3.0, 3.5)
    grid.update(marks[:0], ends, 3.0, 3.5)
    assert grid.lethal.sum() == 1  # the upper one
    grid.update(marks[:1], np.array([[1.6, 0.0, 0.2]]), 3.0, 3.5)
    grid.update(marks[:0], np.array([[1.55, 0.0, 0.2]]), 3.0, 3.5)
    assert grid._marked.sum() == 2  # the ray ends two cells before its point


@pytest.mark.parametrize('name', ['obstacle_layer', 'voxel_layer'])
def test_the_file_marks_and_clears_apart(name):
    layer = COSTMAP[name]
    sources = [layer[source] for source in layer['observation_sources'].split()]
    assert [(source['marking'], source['clearing']) for source in sources] == [
        (True, False), (False, True)]
    for source in sources:
        assert source['topic'] in ('/depth/obstacles', '/depth/scan', '/depth/points')
        assert source['data_type'] == ('LaserScan' if source['topic'] == '/depth/scan' else
                                       'PointCloud2')
        # nav2's own defaults are 0 and 0: all would be left out
        assert source['min_obstacle_height'] < 0 < 2 < source['max_obstacle_height']
    assert sources[0]['obstacle_max_range'] < sources[1]['raytrace_max_range']
    assert sources[1]['raytrace_max_range'] < NODE['obstacle_max_range'] < NODE['max_range']
    assert sources[1].get('inf_is_valid', False) == (name == 'obstacle_layer')
    assert name != 'voxel_layer' or (
        layer['z_voxels'] <= 16 and layer['z_voxels'] * layer['z_resolution'] > 2.3)
    assert NODE['edge_filter'] == 0  # what clears needs no outlines


def test_the_measure_counts_what_is_left_of_a_cylinder(monkeypatch):
    for name in ('PLACES', 'BEFORE', 'AFTER'):
        monkeypatch.setattr(costmap, name, 1)
    whole, frames = costmap.ways, []
    monkeypatch.setattr(costmap, 'ways', lambda *given: dict([next(iter(whole(*given).items()))]))

    def perfect(rgb, fx):
        frames.append(rgb)
        return scene([BOX]) if len(frames) == 2 else scene()
    row, = vanish(perfect, [600]).values()
    assert not (frames[1] == frames[2]).all()  # the cylinder was rendered
    assert 5 < row['cells'] < 40 and row['left'] == row['places'] == 0
    assert row['seconds'] == pytest.approx(0.2)
