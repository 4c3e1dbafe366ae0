"""Which calibration a frame is seen through."""

from types import SimpleNamespace

import numpy as np
import pytest

from hybrid_depth_ros.calibration import (
    MAX_CALIBRATIONS,
    CalibrationHistory,
    camera_model_from_info,
    intrinsics_from_camera_info,
    is_rectified_topic,
    other_camera,
)

MS = 1_000_000


def info(fx=150.0, width=160, height=120, roi=(0, 0, 0, 0), binning=(0, 0), d=()):
    """As sensor_msgs/CameraInfo; fx 0: not calibrated."""
    k = (fx, 0, 80.0, 0, fx, 60.0, 0, 0, 1) if fx else (0.0,) * 9
    return SimpleNamespace(
        width=width, height=height, distortion_model='plumb_bob', d=d, k=k, r=(0.0,) * 9,
        p=(0.0,) * 12, binning_x=binning[0], binning_y=binning[1],
        roi=SimpleNamespace(**dict(zip(('x_offset', 'y_offset', 'width', 'height'), roi))))


def focals(calibrations, *stamps, size=(160, 120)):
    """fx at each of the stamps (ms)."""
    cameras = [calibrations.at(stamp * MS, *size) for stamp in stamps]
    return [camera and camera.intrinsics.fx for camera in cameras]


def calibrations(*entries, live=False):
    """Of (stamp in ms, fx)."""
    made = CalibrationHistory(live)
    for stamp, fx in entries:
        made.add(info(fx), stamp * MS)
    return made


def test_a_frame_is_seen_through_the_calibration_of_its_stamp():
    """A lens zooms; camera_info comes with each frame, or when it changes."""
    zoom = [(0, 150.0), (33, 150.0), (66, 300.0), (99, 300.0), (132, 150.0)]
    assert focals(calibrations(*zoom), 0, 33, 66, 99, 132, 500) == [150, 150, 300, 300, 150, 150]
    changes = calibrations((0, 150.0), (5000, 300.0))
    assert focals(changes, 10, 4900, 4980, 5000, 9000) == [150, 150, 150, 300, 300]
    assert focals(changes, 4997) == [300]  # a driver that stamps its camera_info a little later
    fast = calibrations(*((8 * i, 150.0) for i in range(4)), (32, 300.0))
    assert focals(fast, 24, 32) == [150, 300]  # its own is nearer than the next
    assert focals(calibrations((100, 150.0)), 0, 99, 100) == [150] * 3  # recorded too late
    assert focals(CalibrationHistory(), 0) == [None]


def test_not_calibrated_yet():
    """The first camera_info of some drivers is all zero."""
    late = calibrations((0, 0.0), (100, 150.0), (200, 300.0))
    assert focals(late, 0, 50, 100, 200) == [150, 150, 150, 300]
    lost = calibrations((0, 150.0), (100, 0.0), (200, 150.0))
    assert focals(lost, 50, 200) == [150, 150]
    with pytest.raises(ValueError, match='uncalibrated'):
        focals(lost, 150)
    with pytest.raises(ValueError, match='uncalibrated'):
        focals(calibrations((0, 0.0)), 5)


def test_live_the_newest_counts_where_clocks_differ():
    ahead = calibrations((10**6, 150.0), (10**6 + 33, 300.0), live=True)
    assert focals(ahead, 7) == [300]
    unstamped = calibrations((5000, 150.0), (0, 300.0), live=True)  # ros2 topic pub, no header
    assert focals(unstamped, 6000) == [300]
    looping = calibrations((0, 150.0), (5000, 300.0), (0, 150.0), live=True)  # a bag, again
    assert focals(looping, 33) == [150]


def test_a_live_camera_remembers_no_more_than_it_should():
    zooming = calibrations(*((i, 100.0 + i) for i in range(3 * MAX_CALIBRATIONS)), live=True)
    assert len(zooming._intervals) == MAX_CALIBRATIONS
    last = 3 * MAX_CALIBRATIONS
    assert focals(zooming, last - 1, last - 5) == [99.0 + last, 95.0 + last]
    for stamp in range(5):
        zooming.add(info(d=(float(stamp),) * 100_000), stamp)
    assert len(zooming._intervals) == 1
    steady = calibrations(*((i, 150.0) for i in range(1000)))
    assert len(steady._intervals) == 1


def test_a_centre_in_the_corner_is_no_calibration():
    """fx without cx and cy moved the whole cloud, in silence."""
    calibration = info()
    calibration.k = [150.0, 0, 0, 0, 150.0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match='cx and cy are 0'):
        camera_model_from_info(calibration, 160, 120)


@pytest.mark.parametrize(('changes', 'size'), [
    ({'width': 640, 'height': 480}, (160, 90)),
    ({}, (120, 160)),  # portrait
    ({'roi': (0, 0, 160, 60)}, (160, 120)),
    ({'binning': (2, 1)}, (160, 120)),
])
def test_made_for_another_image(changes, size):
    """Images of another shape, which neither region nor binning explains, are refused."""
    with pytest.raises(ValueError, match=f'it is for .*, the image is {size[0]}×{size[1]}: have'):
        camera_model_from_info(info(**changes), *size)
    with pytest.raises(ValueError, match='it is for'):
        camera_model_from_info(info(d=(-0.1, 0.01, 0.0, 0.0, 0.0), **changes), *size)


@pytest.mark.parametrize(('changes', 'size', 'fx', 'note'), [
    ({}, (160, 120), 150, ''),
    ({'width': 640, 'height': 480, 'roi': (240, 195, 160, 90)}, (160, 90), 150, ''),
    ({'width': 640, 'height': 360, 'binning': (4, 4)}, (160, 90), 37.5, ''),
    ({'width': 0, 'height': 0}, (160, 90), 150, ''),
    ({}, (80, 60), 75, 'it is for 160×120, images are 80×60'),
    ({'width': 641, 'height': 481}, (320, 240), 150 * 320 / 641, 'it is for 641×481'),
])
def test_what_region_binning_and_resizing_explain(changes, size, fx, note):
    camera = camera_model_from_info(info(**changes), *size)
    assert camera.intrinsics.fx == pytest.approx(fx)
    assert camera.intrinsics == intrinsics_from_camera_info(info(**changes), *size)
    assert camera.note.startswith(note)
    assert bool(camera.note) == bool(note)


@pytest.mark.parametrize(('topic', 'rectified'), [
    ('/camera/image_rect', True), ('/camera/image_rect_color', True), ('image_rect_raw', True),
    ('/camera/image_rectified', True), ('/camera/image_rect/compressed', True),
    ('/camera/image_corrected', False), ('/direct', False), ('/camera/direct/compressed', False),
    ('/image_rect/image_raw', False), ('/camera/rectangle', False), ('', False),
])
def test_rect_is_a_word_of_its_own(topic, rectified):
    assert is_rectified_topic(topic) == rectified


def test_the_turn_of_a_rectified_camera():
    turned = info(d=(-0.1, 0.0, 0.0, 0.0, 0.0))
    turned.r = tuple(np.diag([1.0, -1.0, -1.0]).ravel())
    assert np.array_equal(camera_model_from_info(turned, 160, 120).rotation, np.diag([1, -1, -1]))
    unrectified = camera_model_from_info(turned, 160, 120, rectify=False)
    assert np.array_equal(unrectified.rotation, np.eye(3))


@pytest.mark.parametrize(('image', 'info', 'differ'), [
    ('left', 'right', True), ('left_optical_frame', 'right_optical_frame', True),
    ('left', 'left', False), ('left', '', False), ('', 'right', False), ('left', '/left', False),
    ('robot/left', 'left_link', False), ('camera_color_optical_frame', 'camera_color_frame', False),
    ('camera_link', 'camera_color_optical_frame', False),
    ('camera_1_optical_frame', 'camera_10_optical_frame', True), ('cam1', 'cam10', True),
    ('left/camera_link', 'right/camera_link', True), ('/left/camera', 'left/camera_link', False),
    ('robot1/left/camera', 'left/camera_link', False), ('robot1/camera', 'robot2/camera', True),
    ('robot1/left/camera', 'robot1/right/camera', True), ('cam', 'camera_link', False),
    ('cam1_link', 'camera_1', False), ('camera', 'camera0_optical_frame', False),
    ('camera0', 'camera1', True), ('cam_f', 'cam_fl', True),
    ('camera_depth_frame', 'camera_color_frame', True)])
def test_a_camera_info_of_another_frame_is_named(image, info, differ):
    said = other_camera(image, info)
    assert bool(said) == differ
    assert not differ or (repr(image) in said and repr(info) in said)


def vga(**changes):
    message = info(600.0, 640, 480)
    vars(message).update(k=(600, 0, 325, 0, 600, 238, 0, 0, 1), **changes)
    return message


@pytest.mark.parametrize(('k', 'fx', 'said'), [
    ((600, 600, 325, 238), 600, ''), ((600, 600, 250, 300), 600, ''),
    ((1200, 1200, 650, 470), 600, 'is 2 times the middle of 640×480'),
    ((300, 300, 160, 121), 300, '(160, 121) is far from the middle of 640×480'),
    ((1800, 1800, 958, 722), 600, 'is 3 times'),
    ((600, 600, 800, 238), 600, 'is far from the middle'),
    ((600, 300, 325, 238), 600, 'fx is 600 and fy 300')])
def test_a_matrix_for_another_size_of_image_is_seen_by_its_centre(k, fx, said):
    fx_told, fy, cx, cy = k
    message = vga()
    message.k = (fx_told, 0, cx, 0, fy, cy, 0, 0, 1)
    model = camera_model_from_info(message, 640, 480)
    assert model.intrinsics.fx == pytest.approx(fx)
    assert said in model.doubt and bool(model.doubt) == bool(said)


@pytest.mark.parametrize(('model', 'd', 'said'), [
    ('plumb_bob', [0.1, 0, 0, 0, 0], ''), ('', [0.1, 0, 0, 0, 0], 'plumb_bob is taken'),
    ('', [0.1] + [0.0] * 7, 'rational_polynomial is taken'),
    ('equidistant', [0.1, 0, 0, 0, 0.2], 'the first 4 count'),
    ('equidistant', [0.1, 0, 0, 0], '')])
def test_coefficients_that_do_not_go_with_their_model_are_told_of(model, d, said):
    found = camera_model_from_info(vga(distortion_model=model, d=d), 640, 480)
    assert found.rectification is not None
    assert said in found.doubt and bool(found.doubt) == bool(said)
