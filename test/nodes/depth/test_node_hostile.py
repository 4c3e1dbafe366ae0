"""What a depth node is sent by those who mean harm; test/soak/hostile.py sends 20,000 of these."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('hypothesis')
from builtin_interfaces.msg import Time
from graph import CAMERA, CHART
from hostile import (
    BOMB,
    BOMBS,
    LONGEST,
    PATIENCE,
    PICTURES_OF_CHART,
    Victim,
    fuzz,
    held_megabytes,
    png_claiming,
)
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from stub_depth_node import HEIGHT, WIDTH, scene_depth

from hybrid_depth_ros.compressed_depth import compressed_to_depth
from hybrid_depth_ros.image_files import CameraSnapshot, save_snapshot
from hybrid_depth_ros.nodes.depth.node import check_cameras, resident_megabytes
from hybrid_depth_ros.nodes.shared.messages import rgb_to_image


@pytest.fixture(scope='module', params=['raw', 'compressed'])
def victim(request):
    victim = Victim(request.param)
    yield victim
    victim.close()


def test_hostile_messages(victim):
    fuzz(victim, 20, number=1)  # what comes first leaves something behind
    before = held_megabytes()
    assert fuzz(victim, 150) > 100
    assert victim.refusals > 20
    victim.check_log()
    assert held_megabytes() - before < 100


def test_a_bomb_is_refused_before_it_is_unpacked(victim):
    if victim.raw:
        bombs = [Image(encoding=encoding, width=width, height=height, step=step, data=bytes(9))
                 for encoding in ('mono8', 'bgr8', 'nv12', 'mono16', 'bayer_rggb8')
                 for width, height, step in ((60_000, 60_000, 180_000), (2**32 - 2,) * 2 + (9,),
                                             (2**31, 2, 2**32 - 1))]
    else:
        assert len(BOMB) < 45_000
        bombs = [CompressedImage(format='png', data=data) for data in BOMBS]
    for bomb in bombs:
        Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
        before = resident_megabytes()
        start = time.monotonic()
        victim.attack(None, bomb)
        assert victim.skipped, bomb.data[:20]
        assert time.monotonic() - start < 1
        peak = int(next(line for line in Path('/proc/self/status').read_text().splitlines()
                        if line.startswith('VmHWM')).split()[1]) / 1e3
        assert peak - before < 80


@pytest.mark.parametrize('data', [BOMB, png_claiming(30_000, 30_000, 16, 0), png_claiming(9, 9)])
def test_a_bomb_of_compressed_depth(data):
    with pytest.raises(ValueError, match=r'compressed depth .*(is|more than)'):
        compressed_to_depth(CompressedImage(format='16UC1; compressedDepth png',
                                            data=bytes(12) + data))


@pytest.mark.parametrize('numbers', [
    {'fx': 1e300}, {'fx': 5e-324}, {'fy': 1e30}, {'width': 2**32 - 1}, {'height': 2**32 - 1}])
def test_no_lens_makes_depth_infinite_or_zero(numbers):
    with pytest.raises(ValueError, match='no lens'):
        replace(CAMERA, **numbers)


def test_stamps_that_jump_back_cost_no_frame(victim):
    for stamp in (Time(sec=100), Time(sec=5), Time(sec=-1), Time(sec=-2**31, nanosec=2**32 - 1)):
        header = Header(stamp=stamp)
        victim.attack(None, rgb_to_image(CHART, header) if victim.raw else CompressedImage(
            header=header, data=PICTURES_OF_CHART))
        assert not victim.skipped, victim.skipped


def test_camera_names_cannot_lead_elsewhere():
    for name in ('..', '../up', '/etc', 'a/b', 'a.b', '~', 'a b', 'a\n', 'caméra', 'é'):
        with pytest.raises(ValueError, match='cameras has the name'):
            check_cameras([name])


@pytest.mark.parametrize('victim', ['raw'], indirect=True)
def test_a_snapshot_stays_in_its_folder(victim, tmp_path):
    def snapshot(folder):
        """The service's answer, called as rclpy calls it."""
        answer, = victim.node.set_parameters([Parameter('snapshot_folder', value=str(folder))])
        assert answer.successful
        future = victim.node._take_snapshot(Trigger.Request(), Trigger.Response())
        try:
            future.send(None)
        except StopIteration as end:
            return end.value
        victim.good()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                future.send(None)
            except StopIteration as ended:
                return ended.value
            time.sleep(0.01)
        raise AssertionError('no answer')

    link, target, outside = tmp_path / 'link', tmp_path / 'target', tmp_path / 'outside'
    target.mkdir()
    outside.mkdir()
    link.symlink_to(target)  # the owner's choice: a larger disk
    answer = snapshot(link)
    assert answer.success, answer.message
    taken, = target.iterdir()
    assert Path(answer.message) == link / taken.name
    assert sorted(file.name for file in taken.iterdir()) == [
        'camera.yaml', 'cloud.ply', 'depth.png', 'rgb.png']
    for folder in ('~nobody-of-this-name/x', target / taken.name / 'rgb.png', '/proc/x'):
        answer = snapshot(folder)
        assert not answer.success
        assert str(folder).split('/')[0] in answer.message and len(answer.message) < LONGEST
    # what somebody else has put where the next files would go is not followed
    moment = tmp_path / 'moment'
    moment.with_name('moment.partial').symlink_to(outside)
    with pytest.raises(FileExistsError):
        save_snapshot(moment, {'': CameraSnapshot(CHART, scene_depth(WIDTH, HEIGHT))})
    assert not list(outside.iterdir())
    moment.symlink_to(outside)
    moment.with_name('moment.partial').unlink()
    with pytest.raises(OSError, match='moment'):
        save_snapshot(moment, {'': CameraSnapshot(CHART, scene_depth(WIDTH, HEIGHT))})
    assert not list(outside.iterdir())
    assert not moment.with_name('moment.partial').exists()


def test_a_node_that_was_told_to_end_complains_no_more():
    victim = Victim('raw')
    victim.camera.skip(ValueError('before'))
    rclpy.shutdown(context=victim.context)  # frames of sensors are under way all the same
    victim.camera.warn('anchors', 'anchors are not used')
    assert [text for _, text in victim.log.warnings] == ['frame skipped: before']
    victim.node.destroy_node()
