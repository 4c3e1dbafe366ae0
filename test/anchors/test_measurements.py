"""What of a message is a measurement, and which of its fields are believed."""

from types import SimpleNamespace

import numpy as np
import pytest
from sensor_messages import cloud, scan, sonar, stamped

from hybrid_depth_ros.anchors.measurements import (
    beam_interval,
    field_of_view,
    is_measurement,
    measured_range,
    read_cloud,
    read_scan,
    scan_angles,
)
from hybrid_depth_ros.anchors.sensors import cloud_points
from hybrid_depth_ros.point_cloud import POINT

NAN, INF = float('nan'), float('inf')
WALLS = 2 + np.sin(np.linspace(0, 5, 90)).astype(np.float32)  # metres
NOTHING = np.arange(90) % 3 == 0


@pytest.mark.parametrize(('number', 'limits'), [
    (3.5, {'range_max': 3.5}), (3.4999, {'range_max': 3.5}), (0.1, {'range_min': 0.1}),
    (0.0, {'range_min': 0.0}), (-1.0, {}), (NAN, {}), (INF, {}), (-INF, {}),
    *((code, {'range_max': 0.0}) for code in (
        65.535, 655.35, 32.767, 8.19, 1e6, 16777216.0, 4.29e9, 12.0, 99.9)),
    (65.535, {'range_max': 100.0}), (0.05, {'range_min': 0.0})])
def test_what_stands_for_nothing_is_no_distance(number, limits):
    ranges = np.where(NOTHING, np.float32(number), WALLS)
    reading = read_scan(scan(ranges, **{'angle_min': -1.0, 'angle_increment': 0.02,
                                        'range_max': 8.0, **limits}))
    np.testing.assert_allclose(np.hypot(*reading.points[:2]), WALLS[~NOTHING], rtol=1e-5)
    assert reading.silent.shape == (3, NOTHING.sum())


def test_real_distances_stay():
    assert is_measurement(WALLS, 0.1, 12).all()
    assert is_measurement(np.full(40, 2.5, np.float32)).all()  # a round wall
    corridor = np.where(np.arange(90) < 30, np.float32(9), WALLS)
    assert is_measurement(np.round(corridor + np.linspace(0, 0.1, 90), 2).astype(np.float32)).all()
    rough = np.tile(np.array([1, 1, 1, 4], np.float32), 20)  # too coarse to tell
    assert is_measurement(rough).all()


def test_beams_without_intensity_came_back_from_nothing():
    ranges, intensities = np.where(NOTHING, 3.1 + WALLS / 7, WALLS), np.where(NOTHING, 0, 40.0)
    assert (is_measurement(ranges, intensities=intensities) == ~NOTHING).all()
    assert is_measurement(ranges, intensities=np.zeros(90)).all()  # none has any
    assert is_measurement(ranges, intensities=np.zeros(0)).all()


@pytest.mark.parametrize(('changes', 'named'), [
    ({'range_min': 120.0, 'range_max': 3500.0}, 'range_min 120 and range_max 3500'),
    ({'range_min': 0.1, 'range_max': 0.5}, 'range_max 0.5'),
    ({'range_min': 8.0, 'range_max': 0.1}, 'from 8 to 0.1 m')])
def test_limits_that_no_range_keeps_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        read_scan(scan(WALLS, **{'angle_min': -1.0, 'angle_increment': 0.02, **changes}))


STEP = 2 * np.pi / 360


@pytest.mark.parametrize(('fields', 'said'), [
    ((-np.pi, np.pi - STEP, STEP), ''), ((-np.pi, np.pi, STEP), ''),
    ((-180.0, 179.0, STEP), 'angle_min and angle_max are taken for degrees'),
    ((-180.0, 179.0, 1.0), 'all are taken for degrees'),
    ((-np.pi, np.pi - STEP, 1.0), 'angle_increment is taken for degrees'),
    ((-np.pi, np.pi - STEP, 2 * STEP), 'angle_increment is not believed'),
    ((-np.pi, np.pi - STEP, 0.0), 'angle_increment is not believed'),
    ((-np.pi, 500.0, STEP), 'angle_max is not believed'), ((-np.pi, 0.0, STEP), '')])
def test_angles_that_contradict_each_other_are_read_as_they_make_sense(fields, said):
    first, last, step = fields
    message = scan(np.full(360, 2), angle_min=first, angle_max=last, angle_increment=step)
    first, step, note = scan_angles(message)
    assert (first, step) == pytest.approx((-np.pi, STEP))
    assert note.endswith(said) and bool(note) == bool(said)
    assert not said or f'angle_max is {fields[1]:g}' in note


@pytest.mark.parametrize('fields', [
    (-0.8, 0.8, 0.8 / 180), (-0.8, 0.8, 3.2 / 180), (0.8, -0.8, 1.6 / 180)])
def test_angles_of_which_either_may_be_right_are_named(fields):
    message = scan(np.full(181, 2), angle_min=fields[0], angle_max=fields[1],
                   angle_increment=fields[2])
    with pytest.raises(ValueError, match=rf'would end at .* rad, and angle_max is {fields[1]:g}'):
        scan_angles(message)


@pytest.mark.parametrize(('increment', 'turn', 'seconds', 'said'), [
    (0.0, 0.1, 0.0, ''), (0.1 / 360, 0.1, 0.1 / 360, ''), (-0.1 / 360, 0.1, -0.1 / 360, ''),
    (0.1 / 360, 0.0, 0.1 / 360, ''), (0.1, 0.1, 0.1 / 360, 'scan_time counts'),
    (1e-7, 0.1, 0.1 / 360, 'scan_time counts'), (0.1, 0.0, 0.0, 'of one moment'),
    (NAN, 0.1, 0.1 / 360, 'scan_time counts')])
def test_the_time_of_a_beam(increment, turn, seconds, said):
    message = scan(np.full(360, 2), time_increment=increment, scan_time=turn)
    found, note = beam_interval(message, 2 * np.pi)
    assert found == pytest.approx(seconds) and note.endswith(said)


def records(count=400):
    rng, points = np.random.default_rng(0), np.zeros(400, POINT)
    for axis in 'xyz':
        points[axis] = rng.uniform(0.5, 4, count)
    return points


@pytest.mark.parametrize('nothing', [
    (0, 0, 0), (0.003, 0, -0.004), (0.2, 0, 0.1), (65.535, 0.3, 0.1), (0.2, -0.1, 65.535),
    (NAN, NAN, NAN), (1, 2, INF), (0, 2e6, 0)])
def test_a_point_that_stands_for_nothing_is_none(nothing):
    points = records()
    missing = np.arange(400) % 2 == 0
    for axis, number in zip('xyz', nothing):
        points[axis][missing] = number
    found = cloud_points(cloud(points))
    np.testing.assert_array_equal(found[0], points['x'][~missing])
    assert cloud_points(cloud(records())).shape == (3, 400)


@pytest.mark.parametrize(('kind', 'times'), [
    ('f4', 0.1), ('u4', 1e8), ('f8', 0.1), ('f8 of the day', 0.1)])
def test_a_cloud_says_when_each_point_was_measured(kind, times):
    given = np.zeros(400, [*POINT.descr, ('time', kind[:2])])
    for axis in 'xyz':
        given[axis] = records()[axis]
    given['time'] = np.linspace(0, times, 400)
    message = stamped(cloud(given))
    if kind.endswith('day'):
        message.header.stamp = SimpleNamespace(sec=1_700_000_000, nanosec=0)
        given['time'] += 1.7e9
        message.data = given.tobytes()
    np.testing.assert_allclose(read_cloud(message).seconds, np.linspace(0, 0.1, 400), atol=1e-6)
    given['time'] = 5
    message.data = given.tobytes()
    assert read_cloud(message).seconds is None


def test_a_cloud_that_counts_no_rows_has_one():
    message = cloud(records(), height=0)
    assert cloud_points(message).shape == (3, 400)
    with pytest.raises(ValueError, match=r'tells of 0 rows of 3 points, and holds 6400 bytes'):
        cloud_points(cloud(records(), height=0, width=3))


@pytest.mark.parametrize(('changes', 'metres'), [
    ({}, 1.0), ({'range': 5.0}, None), ({'range': 0.1}, None), ({'range': 65.535, 'max_range': 0.0},
                                                                None),
    ({'range': 1.0, 'min_range': 1.0, 'max_range': 1.0}, None)])  # it only says that something is
def test_a_range_at_its_limit_met_nothing(changes, metres):
    assert measured_range(sonar(**changes)) == metres


def test_a_cone_in_degrees_is_seen():
    assert field_of_view(sonar(field_of_view=0.26)) == (0.26, '')
    angle, note = field_of_view(sonar(field_of_view=15.0))
    assert angle == pytest.approx(np.deg2rad(15)) and '15 is taken for degrees' in note
    for wrong in (-1.0, 270.0, NAN):
        with pytest.raises(ValueError, match='field_of_view'):
            field_of_view(sonar(field_of_view=wrong))
    with pytest.raises(ValueError, match=r'5 to 0\.1 m'):
        measured_range(sonar(min_range=5.0, max_range=0.1))
