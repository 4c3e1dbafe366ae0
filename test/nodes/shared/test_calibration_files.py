"""Calibration files as CameraInfo."""

import cv2
import numpy as np
import pytest
import rclpy
from image_messages import HEADER
from rclpy.parameter import Parameter

from hybrid_depth_ros.calibration import rectification_from_camera_info
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.image_files import CameraSnapshot, write_snapshot_files
from hybrid_depth_ros.nodes.shared.calibration_files import camera_info_from_yaml

CALIBRATION = '''
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [500.5, 0, 320, 0, 510, 240, 0, 0, 1]
distortion_model: rational_polynomial
distortion_coefficients:
  rows: 1
  cols: 8
  data: [0.2, -0.1, 1e-3, 0.001, 0.02, 0.3, -0.05, 0.01]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]
'''


def test_calibration_file(tmp_path):
    path = tmp_path / 'front.yaml'
    path.write_text(CALIBRATION)
    info = camera_info_from_yaml(path)
    assert (info.width, info.height, info.distortion_model) == (640, 480, 'rational_polynomial')
    assert list(info.d) == [0.2, -0.1, 1e-3, 0.001, 0.02, 0.3, -0.05, 0.01]
    assert info.k[0] == 500.5 and info.r.tolist() == np.eye(3).ravel().tolist()
    assert info.p.tolist() == [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]
    assert rectification_from_camera_info(info, 640, 480) is not None


@pytest.mark.parametrize(('old', 'new', 'complaint'), (
    ('image_width: 640', '', 'image_width is missing'),
    ('image_height: 480', 'image_height: -1', 'image_height is wrong'),
    ('camera_matrix:', 'matrix:', 'camera_matrix is missing'),
    ('[500.5, 0,', '[500.5,', 'camera_matrix is wrong: .* 9 numbers'),
    ('[500.5,', '[.nan,', 'camera_matrix is wrong'),
    ('[500.5,', '[wide,', 'camera_matrix is wrong'),
    ('rational_polynomial', '[1]', 'distortion_model is wrong'),
    ('distortion_coefficients:', 'distortion:', 'distortion_coefficients is missing'),
    (CALIBRATION, '- 1', 'holds no keys'),
    (CALIBRATION, '', 'holds no keys'),
    (CALIBRATION, '%YAML:1.0\n---\na: !!opencv-matrix {}', 'camera_matrix is missing'),
    (CALIBRATION, '\0', 'not YAML'),
))
def test_calibration_file_errors(tmp_path, old, new, complaint):
    path = tmp_path / 'front.yaml'
    path.write_text(CALIBRATION.replace(old, new, 1))
    with pytest.raises(ValueError, match=f'front.yaml.*{complaint}'):
        camera_info_from_yaml(path)


def test_calibration_file_absent(tmp_path):
    with pytest.raises(OSError, match='nowhere'):
        camera_info_from_yaml(tmp_path / 'nowhere.yaml')


@pytest.mark.parametrize(('size', 'fx', 'said'), [
    ((640, 480), 500.5, ''), ((480, 640), 0, 'it is for 640×480, the image is 480×640'),
    ((320, 240), 500.5, 'taken to be the same view, resized')])
def test_a_calibration_file_for_another_image(tmp_path, monkeypatch, size, fx, said):
    """ros_astra_camera#103: the camera node names it once, and publishes none."""
    from hybrid_depth_ros.nodes.camera import CameraNode
    (tmp_path / 'front.yaml').write_text(CALIBRATION)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*size[::-1], 3), np.uint8))
    context, logged = rclpy.Context(), []
    rclpy.init(args=[], context=context)
    node = CameraNode(context=context, parameter_overrides=[
        Parameter('source', value=str(tmp_path)),
        Parameter('calibration', value=str(tmp_path / 'front.yaml')),
        Parameter('frame_id', value='/camera')])
    try:
        monkeypatch.setattr(type(node.get_logger()), 'warning', lambda _, text: logged.append(text))
        infos = [node._camera_info(*size, HEADER) for _ in range(3)]
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert [info.k[0] for info in infos] == [fx] * 3
    assert len(logged) == bool(said)
    assert not said or (said in logged[0] and 'front.yaml' in logged[0])


@pytest.mark.parametrize(('suffix', 'coefficients', 'model'), [
    ('.yml', 5, 'plumb_bob'), ('.xml', 5, 'plumb_bob'), ('.yml', 8, 'rational_polynomial')])
def test_a_calibration_of_opencvs(tmp_path, monkeypatch, suffix, coefficients, model):
    """usb_cam#310's kind: what OpenCV's own calibration writes, and the URLs that drivers take."""
    path = tmp_path / f'my camera{suffix}'
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    matrix = np.array([[500.0, 0, 319], [0, 501, 241], [0, 0, 1]])
    storage.write('image_width', 640)
    storage.write('image_height', 480)
    storage.write('camera_matrix', matrix)
    storage.write('distortion_coefficients', np.arange(coefficients)[:, None] / 100)
    storage.release()
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    for name in (path, f'file://{path}', f'file://{str(path).replace(" ", "%20")}',
                 f'${{ROS_HOME}}/{path.name}', f'file://${{ROS_HOME}}/{path.name}'):
        info = camera_info_from_yaml(name)
        assert (info.width, info.height, info.distortion_model) == (640, 480, model)
        np.testing.assert_array_equal(info.k.reshape(3, 3), matrix)
        np.testing.assert_allclose(info.d, np.arange(coefficients) / 100)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], matrix)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match='my camera'):
        camera_info_from_yaml(path)


def test_a_calibration_that_says_nothing_or_is_nowhere(tmp_path):
    """usb_cam#310's kind: K of 0 is a camera that was not calibrated."""
    path = tmp_path / 'camera.yaml'
    write_snapshot_files(tmp_path, 'camera', CameraSnapshot(
        np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32),
        Intrinsics(6, 4, 5.0, 5.0, 2.5, 1.5)))
    path.write_text(path.read_text().replace('- 5.0', '- 0.0'))
    with pytest.raises(ValueError, match=r'camera\.yaml: camera_matrix has a focal length of 0 .*'
                                         'was not calibrated'):
        camera_info_from_yaml(path)
    for name, said in (('package://nobody_here/a.yaml', 'no package nobody_here is known here'),
                       ('file://${ROS_HOME}/${NAME}.yaml', r'only \$\{ROS_HOME\} is known here'),
                       ('http://camera/a.yaml', 'is no calibration file')):
        with pytest.raises(OSError, match=said):
            camera_info_from_yaml(name)
