"""Obstacles: the floor's plane, what stands above it, a scan of it, what is not known."""

import cv2
import numpy as np
import pytest

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.floor_plane import (
    FLOOR_HOLD,
    FloorPlane,
    FloorTracker,
    fit_floor,
    level_axes,
)
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.visualization import (
    BACKGROUND,
    FREE,
    OBSTACLE,
    PIXELS_PER_METRE,
    draw_floor_map,
)

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)
HEIGHT, PITCH = 0.6, 10.0
DOWN = down_from_pitch(PITCH)
SETTINGS, BOX = ObstacleSettings(), (1.5, 0.2, -0.2, 0.5)


def scene(boxes=(), far=6.0, ramp=0.0):
    """Depth of a floor under a camera, of a wall, and of upright boxes: (x, left, right, high).

    Metres: x forward, left and right along y, high above the floor. ramp: degrees that the floor
    rises ahead.
    """
    down = down_from_pitch(PITCH + ramp)
    x = (np.arange(640) - CAMERA.cx) / CAMERA.fx * np.ones((480, 1))
    y = ((np.arange(480) - CAMERA.cy) / CAMERA.fy)[:, None] * np.ones(640)
    fall = down[0] * x + down[1] * y + down[2]
    run = (np.cos(np.deg2rad(PITCH + ramp)) - y * np.sin(
        np.deg2rad(PITCH + ramp)))
    with np.errstate(divide='ignore'):
        depth = np.where(fall > 0, HEIGHT / fall, np.inf)
    depth = np.minimum(depth, far / run)
    for ahead, left, right, high in boxes:
        z = ahead / run
        across, above = -x * z, HEIGHT - fall * z
        hit = (across > right) & (across < left) & (above > 0) & (above < high)
        depth = np.where(hit, np.minimum(depth, z), depth)
    return depth.astype(np.float32)


def scan_of(depth, plane=None, settings=SETTINGS):
    level = FloorPlane.from_gravity(HEIGHT, DOWN)
    return obstacle_scan(find_obstacles(depth, CAMERA, plane or level, settings),
                         scan_angles(CAMERA, level, settings))


def range_at(scan, degrees):
    return scan.ranges[np.abs(scan.angles - np.deg2rad(degrees)).argmin()]


@pytest.mark.parametrize(('width', 'height'), [(1000, 2), (1000, 1), (2, 1000), (1, 1)])
def test_an_image_of_hardly_any_rows_or_columns_has_obstacles_too(width, height):
    """Two rows of a wide image lay between those that are looked at: a TypeError."""
    camera = Intrinsics(width, height, 500, 500, width / 2, height / 2)
    plane = FloorPlane.from_gravity(HEIGHT, DOWN)
    found = find_obstacles(np.full((height, width), 1.5, np.float32), camera, plane, SETTINGS)
    assert found.chosen.any() and obstacle_cloud(found).size
    assert np.nanmin(obstacle_scan(found, scan_angles(camera, plane, SETTINGS)).ranges) < 1.6


def test_the_nearest_obstacle_by_direction():
    scan = scan_of(scene([(1.5, 0.2, -0.2, 0.5), (2.5, 1.0, 0.6, 1.0)]))
    assert range_at(scan, 0) == pytest.approx(1.5, abs=0.03)
    left = np.rad2deg(np.arctan2(0.8, 2.5))
    assert range_at(scan, left) == pytest.approx(np.hypot(0.8, 2.5), abs=0.05)
    assert np.isinf(range_at(scan, -20))  # y is to the left, and there is nothing to the right
    assert scan.angles[0] < 0 < scan.angles[-1]
    assert np.rad2deg(scan.angles[-1] - scan.angles[0]) == pytest.approx(67, abs=3)
    # the corners below look farther to the side, and not far ahead
    assert np.isnan(scan.ranges[[0, -1]]).all()
    assert not np.isnan(scan.ranges[np.abs(scan.angles) < np.deg2rad(31)]).any()


def test_a_small_thing_counts_near_and_not_far():
    settings = ObstacleSettings(max_range=6, edge_filter=0)  # the floor's error alone
    assert range_at(scan_of(scene([(0.9, 0.2, -0.2, 0.1)]), settings=settings), 0) < 1
    assert np.isinf(range_at(scan_of(scene([(4.0, 0.2, -0.2, 0.1)], far=20), settings=settings), 0))
    assert range_at(scan_of(scene([(4.0, 0.2, -0.2, 0.6)]), settings=settings), 0) < 4.2


def test_what_is_passed_under_is_no_obstacle():
    beam = scene([(2.0, 0.5, -0.5, 0.75)])
    assert np.isfinite(range_at(scan_of(beam), 0))
    assert np.isinf(range_at(scan_of(np.where(beam < 2.1, scene(), beam)), 0))
    low = ObstacleSettings(min_height=0.8, max_height=1.8)
    assert np.isinf(range_at(scan_of(beam, settings=low), 0))


def test_unknown_is_not_free():
    depth = scene()
    depth[:, 200:440] = np.nan
    scan = scan_of(depth)
    assert np.isnan(range_at(scan, 0)) and np.isinf(range_at(scan, 25))
    partly = scene([(1.5, 0.2, -0.2, 0.5)])
    partly[:200] = np.nan  # what is above the obstacle
    assert range_at(scan_of(partly), 0) == pytest.approx(1.5, abs=0.03)
    assert np.isnan(scan_of(np.full((480, 640), np.nan, np.float32)).ranges).all()


def test_a_steep_camera_tells_of_no_more_than_it_sees():
    down = down_from_pitch(45)
    level = FloorPlane.from_gravity(HEIGHT, down)
    angles = scan_angles(CAMERA, level, SETTINGS)
    farthest = HEIGHT / np.tan(np.deg2rad(45) - np.arctan(240 / CAMERA.fy))
    assert angles.range_max == pytest.approx(farthest, abs=0.1) and farthest < 1.8
    assert np.rad2deg(angles.first) < -50  # the corners below
    rays = find_obstacles(np.full((480, 640), 0.1, np.float32), CAMERA, level, SETTINGS)
    fall = rays.height - HEIGHT
    floor = np.kron(HEIGHT / -fall * 0.1, np.ones((4, 4))).astype(np.float32)
    scan = obstacle_scan(find_obstacles(floor, CAMERA, level, SETTINGS), angles)
    assert np.isinf(range_at(scan, 0)) and np.isnan(range_at(scan, 45))
    assert scan_angles(CAMERA, FloorPlane.from_gravity(HEIGHT, DOWN), SETTINGS).range_max == 4


def test_each_column_of_an_image_has_a_direction():
    for fov in (40, 63.3, 120):
        camera = Intrinsics.from_horizontal_fov(640, 480, fov)
        down = [0, 1, 0]
        level = FloorPlane.from_gravity(HEIGHT, down)
        angles = scan_angles(camera, level, SETTINGS)
        wall = np.full((480, 640), 1.5, np.float32)
        scan = obstacle_scan(find_obstacles(wall, camera, level, SETTINGS), angles)
        inside = np.abs(scan.angles) < np.deg2rad(fov / 2 - 2)
        assert np.isfinite(scan.ranges[inside]).all()  # no gap to drive through


def test_a_network_that_is_wrong_in_scale_has_a_floor_all_the_same():
    for scale in (0.8, 1.3):
        depth = scale * scene([(2.0, 0.2, -0.2, 0.5)])
        plane, reason = fit_floor(depth, CAMERA, HEIGHT, DOWN)
        assert not reason
        assert plane.height == pytest.approx(scale * HEIGHT, rel=0.02)
        scan = scan_of(depth, plane)
        assert range_at(scan, 0) == pytest.approx(2 * scale, rel=0.03)
        assert np.isinf(range_at(scan, 20)) and np.isinf(range_at(scan, -20))


@pytest.mark.parametrize('ramp', [-6, 6])
def test_a_ramp_is_floor(ramp):
    depth = scene(ramp=ramp, far=30)
    plane, _ = fit_floor(depth, CAMERA, HEIGHT, DOWN)
    scan = scan_of(depth, plane)
    assert np.isinf(scan.ranges[np.abs(scan.angles) < np.deg2rad(31)]).all()
    level = scan_of(depth).ranges
    assert np.isfinite(level).any() == (ramp > 0)  # by gravity alone it would be a wall


def test_the_cloud_holds_what_stands_there_and_no_floor():
    depth = scene([(1.5, 0.2, -0.2, 0.5)])
    rgb = np.zeros((480, 640, 3), np.uint8)
    rgb[..., 1] = 200
    plane = FloorPlane.from_gravity(HEIGHT, DOWN)
    whole = obstacle_cloud(find_obstacles(depth, CAMERA, plane, ObstacleSettings(
        voxel_size=0, edge_filter=0)), rgb)[0]
    up = -DOWN
    heights = HEIGHT + up[0] * whole['x'] + up[1] * whole['y'] + up[2] * whole['z']
    assert whole.size > 500 and heights.min() > 0.05 and heights.max() < 0.51
    assert (np.abs(whole['x']) < 0.21).all() and (whole['rgb'] == 200 << 8).all()
    thinned = obstacle_cloud(
        find_obstacles(depth, CAMERA, plane, ObstacleSettings(edge_filter=0)), rgb)[0]
    assert 20 < thinned.size < whole.size / 3
    assert np.isin(thinned, whole).all()  # no means of several surfaces
    cells = np.unique(np.floor(np.stack([thinned['x'], thinned['z']]) / 0.05), axis=1)
    assert cells.shape[1] > 8


def test_the_floor_is_held_for_some_time_and_not_for_ever():
    tracker = FloorTracker()
    assert tracker.update(np.full((480, 640), 0.3, np.float32), CAMERA, HEIGHT, DOWN, 0.0) is None
    assert tracker.reason
    first = tracker.update(scene(), CAMERA, HEIGHT, DOWN, 1.0)
    assert first.height == pytest.approx(HEIGHT, rel=0.02)
    blocked = np.full((480, 640), 0.3, np.float32)
    assert tracker.update(blocked, CAMERA, HEIGHT, DOWN, 2.0) == first
    assert tracker.update(blocked, CAMERA, HEIGHT, DOWN, 1.5 + FLOOR_HOLD) is None
    tracker.update(scene(), CAMERA, HEIGHT, DOWN, 10.0)
    smoothed = tracker.update(1.2 * scene(), CAMERA, HEIGHT, DOWN, 10.2)
    assert tracker.update(blocked, CAMERA, HEIGHT, DOWN, 10.25) is smoothed  # not each frame
    assert HEIGHT * 1.01 < smoothed.height < HEIGHT * 1.1


def test_only_frames_without_a_floor_count_as_missing():
    """Two frames 400 s apart, while nobody listened, were a floor missing for 400 s."""
    blocked, tracker = np.full((480, 640), 0.3, np.float32), FloorTracker()
    for seconds, missing in ((100, 0), (500, 0), (502, 2), (504, 4), (510, 0), (511, 1), (400, 0)):
        tracker.update(blocked, CAMERA, HEIGHT, DOWN, seconds)
        assert tracker.missing == missing
    up = down_from_pitch(-60)  # it sees no floor: none is missing
    for seconds, gravity, missing in ((401, up, 0), (402, up, 0), (403, DOWN, 0), (404, DOWN, 1)):
        tracker.update(blocked, CAMERA, HEIGHT, gravity, seconds)
        assert tracker.missing == missing


def test_a_curtain_behind_an_outline_is_no_obstacle():
    depth = cv2.resize(cv2.GaussianBlur(cv2.resize(
        scene([(1.0, 0.2, -0.2, 0.8)]), (176, 132)), (0, 0), 1.5), (640, 480))
    level = FloorPlane.from_gravity(HEIGHT, DOWN)

    def hanging(settings):
        found = find_obstacles(depth, CAMERA, level, settings)
        return int((found.chosen & (found.ranges > 1.25) & (found.ranges < 3.9)).sum())
    assert hanging(ObstacleSettings(edge_filter=0.0)) > 200
    assert hanging(SETTINGS) < 40


def test_voxels_too_small_for_the_range_are_named():
    assert ObstacleSettings(voxel_size=0.01).voxels == (801, 801, 181)
    with pytest.raises(ValueError, match=r'voxels of 0.001 m are too small for 4 m'):
        ObstacleSettings(voxel_size=0.001)


@pytest.mark.parametrize('wrong', [{'min_height': 2.0}, {'min_range': 5.0}, {'max_range': 0.05}])
def test_settings_that_hold_nothing_are_named(wrong):
    with pytest.raises(ValueError, match='hold nothing: make the upper one larger'):
        ObstacleSettings(**wrong)


def test_the_map_from_above_shows_obstacles_and_free_space():
    found = find_obstacles(scene([BOX]), CAMERA, FloorPlane.from_gravity(HEIGHT, DOWN), SETTINGS)
    scan = scan_of(scene([BOX]))
    plan = draw_floor_map(np.stack((found.x[found.chosen], found.y[found.chosen]), 1),
                          scan.angles, scan.ranges, 4.0)
    size, row = plan.shape[0], plan.shape[0] - 1 - round(1.5 * PIXELS_PER_METRE)
    assert plan.shape == (size, 2 * size, 3)
    assert (plan[row, size - 4:size + 5] == OBSTACLE).all(1).mean() > 0.8
    left = size - round(0.45 * PIXELS_PER_METRE)
    assert tuple(plan[row, left]) == FREE and tuple(plan[row, 2]) == BACKGROUND
    assert tuple(plan[row - 30, size + 2]) == BACKGROUND  # behind the box nothing is known


def test_a_floor_that_bends_up_at_the_images_lower_edge_is_no_obstacle():
    """Networks bend it by a tenth: a wall 0.8 m ahead, behind which a costmap cleared nothing."""
    bend = np.interp(np.arange(480), (420, 479), (1, 0.8)).astype(np.float32)[:, None]
    scan = scan_of(scene() * bend)
    assert np.isinf(scan.ranges[np.abs(scan.angles) < np.deg2rad(31)]).all()
    for high in (0.08, 0.3):  # metres, of a box that the lower edge cuts
        assert range_at(scan_of(scene([(0.9, 0.2, -0.2, high)]) * bend), 0) < 1


@pytest.mark.parametrize(('high', 'end', 'blur'), [
    (0.1, 9, 0), (0.15, 9, 0), (0.17, 9, 6), (0.1, 1.5, 12), (0.1, 1.0, 12)])
def test_a_low_platform_is_an_obstacle(high, end, blur):
    """A platform or kerb right before a robot was taken for a floor that bends up: free."""
    depth = scene([(0.3, 9, -9, high)])  # its front, below the image
    top = scene() * (1 - high / HEIGHT)
    ahead = top * (np.cos(np.deg2rad(PITCH)) - (np.arange(480) - CAMERA.cy)[:, None] / CAMERA.fy
                   * np.sin(np.deg2rad(PITCH)))
    depth = np.where((ahead > 0.3) & (ahead < min(end, 5.9)), top, depth).astype(np.float32)
    if blur:
        depth = cv2.GaussianBlur(depth, (0, 0), blur)
    assert range_at(scan_of(depth), 0) < 0.8


def test_distances_are_level_on_a_ramp():
    depth = scene([(1.5, 0.2, -0.2, 0.5)])  # the box stands upright on a floor that is level
    plane, _ = fit_floor(depth, CAMERA, HEIGHT, DOWN)
    assert np.linalg.norm(plane.slope) < 0.01
    rising = FloorPlane(plane.up, plane.height, 0.15 * level_axes(plane)[:, 0])
    found = find_obstacles(depth, CAMERA, rising, SETTINGS)
    front = found.chosen & (np.abs(found.x - 1.5) < 0.05)
    assert front.any() and np.ptp(found.x[front]) < 0.02  # upright in the scan's frame
    assert found.height[front].max() == pytest.approx(0.5 - 0.15 * 1.5, abs=0.02)


def test_a_small_patch_of_floor_tells_its_height_and_no_slope():
    depth = scene()
    depth[:400] = np.nan
    depth[400:] *= np.linspace(1.1, 1, 80, dtype=np.float32)[:, None]  # bent, as networks do
    plane, _ = fit_floor(depth, CAMERA, HEIGHT, DOWN)
    assert plane.height == pytest.approx(HEIGHT, rel=0.1)
    assert np.rad2deg(np.arctan(np.linalg.norm(plane.slope))) < 4  # by the cells alone it has 8


def depthimage_to_laserscan(depth, rows):
    """What that package makes of the image's middle rows: the nearest depth of each column.

    Ranges left to right as the image; farther than 10 m is none, its default.
    """
    middle = depth[240 - rows // 2:240 - rows // 2 + rows]
    along = np.hypot((np.arange(640) - CAMERA.cx) / CAMERA.fx, 1)
    nearest = middle.min(0) * along
    return np.where(nearest <= 10, nearest, np.inf)


def test_a_tilted_cameras_floor_is_a_wall_to_depthimage_to_laserscan_and_free_to_us():
    depth = scene([BOX], far=20)
    aside = round(CAMERA.cx + CAMERA.fx * np.tan(np.deg2rad(20)))
    for rows, metres in ((1, 3.7), (100, 2.4)):  # of floor
        theirs = depthimage_to_laserscan(depth, rows)
        assert theirs[aside] == pytest.approx(metres, abs=0.1)
        assert theirs[320] < 1.6  # the box
    ours = scan_of(depth)
    assert np.isinf(range_at(ours, -20)) and range_at(ours, 0) == pytest.approx(1.5, abs=0.03)


def test_an_obstacle_has_its_own_width_in_the_scan_and_no_column_is_left_out():
    """An obstacle reached a direction to each side, which blocked what is free beside it."""
    for column in range(318, 328):
        depth = scene()
        depth[200:300, column] = 1.5
        scan = scan_of(depth, settings=ObstacleSettings(edge_filter=0))
        assert np.isfinite(scan.ranges).sum() == 1


@pytest.mark.parametrize('width', [457, 640, 641])
def test_the_last_columns_of_each_width_are_looked_at(width):
    """The last one to three columns of widths such as 641 or 846 were not."""
    camera = Intrinsics(width, 2, 500, 500, width / 2, 1)
    plane = FloorPlane.from_gravity(HEIGHT, DOWN)
    for column in (*range(6), *range(width - 6, width)):
        depth = np.full((2, width), 5, np.float32)
        depth[:, column] = 1
        found = find_obstacles(depth, camera, plane, ObstacleSettings(edge_filter=0))
        assert (found.depth == 1).sum() == 1
