"""Synthetic rooms without Blender: composing, choosing views, the camera, the files."""

import math
import re
import sys
import time
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from train.datasets import open_dataset
from train.synthetic import __main__ as command
from train.synthetic import clutter, frames
from train.synthetic.assets import time_limit
from train.synthetic.drawn import draw_page
from train.synthetic.furnish import footprint, overlap
from train.synthetic.generate import draw_kinds, hall_share
from train.synthetic.kinds import HALLS, KINDS, ON_COUNTERS, ON_DESKS, ON_FLOORS, ON_TABLES
from train.synthetic.rooms import compose
from train.synthetic.shell import THICK
from train.synthetic.views import (
    CLEAR,
    VIEW_KINDS,
    Lenses,
    View,
    any_views,
    develop,
    lit,
    rays,
    rotation,
    sample_views,
)

# every kind that a catalogue must have
PIECES = sorted({
    'Sofa', 'ArmChair', 'CoffeeTable', 'SideTable', 'TableCocktail', 'TVStand', 'TV', 'Monitor',
    'TableDining', 'Chair', 'BarChair', 'OfficeChair', 'SimpleDesk', 'SidetableDesk', 'BedFrame',
    'Mattress', 'KitchenIsland', 'WallArt', 'WallShelf', 'Rug', 'Pillow', 'CeilingLight',
    'CeilingClassicLamp',
    *ON_TABLES, *ON_DESKS, *ON_COUNTERS, *(kind for kind in ON_FLOORS if kind[0].isupper()),
    *(kind for recipe in KINDS.values() for _, kinds in recipe['wall'] for kind in kinds),
    *(kind for recipe in KINDS.values() for kind in recipe['middle'][1])})


class Catalogue:
    """Furniture that nobody made: a size for each kind and number."""

    surface_variants = 3

    def variants(self, kind):
        return 3

    def bounds(self, kind, number):
        rng = np.random.default_rng([len(kind), ord(kind[0]), number])
        wide, deep, high = rng.uniform((0.3, 0.3, 0.2), (1.2, 0.8, 1.6))
        return (0.0, -wide / 2, -0.1), (deep, wide / 2, high - 0.1)


CATALOGUE = Catalogue()


def boxes_of(room):
    """Centre, half size and rotation (room → own frame) of all that is in a room."""
    for box in room.boxes:
        yield np.array(box.centre), np.array(box.size) / 2, box.axes().T
    for piece in room.pieces:
        low, high = (np.array(side) * piece.scale for side in
                     CATALOGUE.bounds(piece.kind, piece.number))
        c, s = math.cos(piece.yaw), math.sin(piece.yaw)
        middle = (low + high) / 2
        yield (np.array(piece.position) + (c * middle[0] - s * middle[1],
                                           s * middle[0] + c * middle[1], middle[2]),
               (high - low) / 2, np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]))


def caster(room):
    """``cast`` of train.synthetic.views for boxes."""
    boxes = list(boxes_of(room))

    def cast(origin, directions):
        nearest = np.full(len(directions), np.inf)
        for centre, half, turn in boxes:
            start, along = turn @ (origin - centre), directions @ turn.T
            with np.errstate(divide='ignore', invalid='ignore'):
                one, other = (-half - start) / along, (half - start) / along
            enters = np.nanmax(np.minimum(one, other), axis=1)
            leaves = np.nanmin(np.maximum(one, other), axis=1)
            hit = (leaves >= np.maximum(enters, 0))
            at = np.where(enters > 0, enters, 0.0)  # 0: the camera is inside
            nearest = np.where(hit & (at < nearest), at, nearest)
        return nearest
    return cast


@pytest.mark.parametrize('kind', KINDS)
def test_furniture_stands_on_the_floor_inside_the_walls_and_apart(kind):
    standing = 0
    for seed in range(4):
        room = compose([seed, 7], CATALOGUE, kind)
        outlines = []
        for piece in room.pieces:
            low, high = (np.array(side) * piece.scale for side in
                         CATALOGUE.bounds(piece.kind, piece.number))
            bottom = piece.position[2] + low[2]
            assert bottom >= -1e-6 and bottom + (high - low)[2] < room.size[2] + 1.0
            if abs(bottom) < 1e-6:
                outline = footprint(*piece.position[:2], piece.yaw, low, high)
                assert outline.min() > 0 and (outline.max(axis=0) < room.size[:2]).all()
                assert not any(overlap(outline, other) for other in outlines), piece
                outlines.append(outline)
                standing += 1
        assert room.lamps and {box.surface for box in room.boxes} <= set(room.surfaces)
    assert standing or kind in ('corridor', 'bare room')


def test_a_seed_is_a_room():
    first, again, other = (compose(seed, CATALOGUE) for seed in ([1, 5], [1, 5], [1, 6]))
    assert asdict(first) == asdict(again) != asdict(other)
    kinds = {compose([0, number], CATALOGUE).kind for number in range(60)}
    assert len(kinds) > len(KINDS) / 2


def test_walls_leave_no_gap_but_doorways_and_windows():
    for seed in range(6):
        room = compose([seed], CATALOGUE)
        cast = caster(room)
        turns = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        ring = np.column_stack((np.cos(turns), np.sin(turns), np.zeros(48)))
        # just below the ceiling, where there is neither a door nor a window
        middle = np.array([room.size[0] / 2, room.size[1] / 2, room.size[2] - 0.05])
        distance = cast(middle, ring)
        assert (distance < np.hypot(*room.size[:2]) + THICK).all()


def test_a_table_is_not_in_its_chairs_way():
    a = footprint(0, 0, 0.0, (-1, -0.5), (1, 0.5))
    assert overlap(a, footprint(0.9, 0.0, 0.7, (-0.2, -0.2), (0.2, 0.2)))
    assert not overlap(a, footprint(1.2, 0.0, 0.0, (-0.2, -0.2), (0.2, 0.2)))  # they touch
    # a turned square beside the corner: its bounding box would overlap
    assert not overlap(a, footprint(1.2, 0.7, math.pi / 4, (-0.2, -0.2), (0.2, 0.2)))


def test_views_stand_free_and_see_something():
    lenses, heights, made = Lenses((0.15, 1.7), (-20, 10), 1.0, (50, 90)), [], 0
    for seed in range(8):
        room = compose([seed, 3], CATALOGUE)
        cast = caster(room)
        views = sample_views(np.random.default_rng(seed), room.size, 6, lenses, cast)
        made += len(views)
        for view in views:
            around = np.random.default_rng(0).standard_normal((200, 3))
            around /= np.linalg.norm(around, axis=1, keepdims=True)
            assert cast(view.position, around).min() > CLEAR / 3  # not inside a thing
            assert (view.position[:2] > 0).all() and (view.position[:2] < room.size[:2]).all()
            assert 0.15 <= view.height <= 1.7 and view.position[2] == view.height
            assert -20 <= view.pitch <= 10 and 50 <= view.fov <= 90
            heights.append(view.height)
    assert made > 20
    assert min(heights) < 0.3 and max(heights) > 1.2  # evenly on a logarithmic scale
    assert 0.3 < np.median(heights) < 0.8


@pytest.mark.parametrize('kind', VIEW_KINDS)
def test_views_of_each_kind_are_what_it_says(kind):
    views, medians = [], []
    for seed in range(5):
        room = compose([seed, 9], CATALOGUE, 'warehouse' if kind == 'hall' else 'office')
        cast = caster(room)
        for view in any_views(np.random.default_rng(seed), room, [kind] * 4, Lenses(), cast):
            assert view.kind == kind
            views.append(view)
            aspect = 3 / 4 if view.portrait else 4 / 3
            medians.append(float(np.median(cast(view.position, rays(view, aspect, 7, 7)))))
    assert len(views) >= 12
    pitch, height = (np.array([getattr(view, name) for view in views])
                     for name in ('pitch', 'height'))
    if kind == 'near':
        assert max(medians) < 1.6 and np.median(medians) < 0.9
    elif kind == 'plain':
        assert min(medians) > 0.08
    elif kind == 'hall':
        assert np.median(medians) > 3
    elif kind == 'high':
        assert height.min() >= 1.8 and pitch.min() >= -60 and pitch.max() <= -10
    elif kind == 'steep':
        assert pitch.min() >= -85 and pitch.max() <= -55
    elif kind == 'rolled':
        rolls = [abs(view.roll) for view in views]
        assert 5 < max(rolls) <= 20 and any(view.portrait for view in views)


def test_a_plain_view_shows_one_plane():
    room = compose([3, 9], CATALOGUE, 'bare room')
    cast = caster(room)
    views = any_views(np.random.default_rng(0), room, ['plain'] * 6, Lenses(), cast)
    assert views
    for view in views:
        near = 1 / cast(view.position, rays(view, 3 / 4 if view.portrait else 4 / 3, 9, 7))
        u, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 7))
        terms = np.column_stack((u.ravel(), v.ravel(), np.ones(63)))
        start = np.median(near) * np.ones(63)
        for _ in range(10):  # a fit that what is off the plane hardly moves
            weight = 1 / (np.abs(near - start) + 1e-3)[:, None]
            start = terms @ np.linalg.lstsq(terms * weight, near * weight[:, 0], rcond=None)[0]
        assert (np.abs(near - start) < 0.1 * start).mean() > 0.75


def test_rooms_are_halls_and_views_are_shared_out_as_asked():
    shares = {**VIEW_KINDS, 'room': 1.0, 'near': 2.0, 'hall': 1.0}
    assert hall_share(shares) == 0.25
    rooms = [compose([seed, 1], CATALOGUE, halls=0.25).kind for seed in range(60)]
    assert 0.15 < np.mean([kind in HALLS for kind in rooms]) < 0.36
    assert not any(compose([seed, 1], CATALOGUE).kind in HALLS for seed in range(20))
    rng = np.random.default_rng(0)
    assert draw_kinds(rng, 'gym', shares, 3) == ['hall'] * 3
    drawn = draw_kinds(rng, 'office', shares, 900)
    assert set(drawn) == {'room', 'near'} and 540 < drawn.count('near') < 660


def test_small_things_lie_on_tables_and_shelves():
    room = compose([4, 9], CATALOGUE, 'office')
    assert room.targets
    for x, y, z in room.targets:
        assert 0 < x < room.size[0] and 0 < y < room.size[1] and 0 < z < room.size[2]
    for maker in (*clutter.EVERYWHERE, *clutter.AT_A_DESK, *clutter.IN_SHELVES, clutter.monitor):
        boxes = maker(np.random.default_rng(1))
        low, high = clutter.extent(boxes)
        assert low[2] > -0.002 and (high - low).max() < 1.2, maker.__name__
        moved = clutter.put(boxes, 1.0, 2.0, 0.5, 0.3, 2.0)
        np.testing.assert_allclose(clutter.extent(moved)[1][2], 0.5 + 2 * high[2], atol=1e-9)


def test_pages_are_drawn_by_their_seed():
    page = draw_page(1, True)
    assert page.shape == (1024, 1024, 3) and page.dtype == np.uint8 and page.std() > 10
    assert (page == draw_page(1, True)).all() and (page != draw_page(2, True)).any()


@pytest.mark.parametrize(('low', 'high'), [(-60, -10), (-45, -40), (20, 40), (-30, 15)])
def test_all_of_the_pitch_that_is_asked_for_comes(low, high):
    lenses, pitches = Lenses((0.2, 1.7), (low, high), 1.0, (50, 90)), []
    for seed in range(6):
        room = compose([seed, 3], CATALOGUE)
        pitches += [view.pitch for view in sample_views(
            np.random.default_rng(seed), room.size, 6, lenses, caster(room))]
    assert len(pitches) > 20 and low <= min(pitches) and max(pitches) <= high
    assert len(set(pitches)) == len(pitches)  # not many at one end
    shares = np.histogram(pitches, 3, (low, high))[0] / len(pitches)
    assert shares.min() > 0.1


def test_rotation_is_of_the_optical_frame():
    np.testing.assert_allclose(rotation(0, 0, 0) @ [0, 0, 1], [1, 0, 0], atol=1e-12)  # ahead: x
    np.testing.assert_allclose(rotation(0, 0, 0) @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation(0, 0, 0) @ [0, 1, 0], [0, 0, -1], atol=1e-12)
    up = rotation(math.pi / 2, math.radians(30), 0) @ [0, 0, 1]
    np.testing.assert_allclose(up, [0, math.cos(math.pi / 6), 0.5], atol=1e-12)
    view = View(np.zeros(3), rotation(0, 0, 0), 90.0, 1.0, 0.0, 0.0)
    assert view.fx_per_width == pytest.approx(0.5)


def test_the_camera_makes_a_picture_whatever_the_light():
    rng = np.random.default_rng(0)
    scene = rng.random((48, 64, 3)).astype(np.float32) + 0.05
    for brightness in (1e-2, 1.0, 1e4):
        picture = develop(scene * brightness, np.random.default_rng(1))
        assert picture.dtype == np.uint8 and picture.shape == scene.shape
        assert 40 < picture.mean() < 220 and lit(picture)
    assert (develop(scene, np.random.default_rng(2)) == develop(
        scene, np.random.default_rng(2))).all()
    dark = develop(np.zeros_like(scene), rng)
    assert dark.max() < 30 and not lit(dark)
    dark[:8, :8] = 200  # a lamp far away
    assert lit(dark)


def view(height=0.3):
    return View(np.array([1.0, 1.0, height]), rotation(0, 0, 0), 63.3, height, -2.0, 0.5)


def write_rooms(out, count):
    rng = np.random.default_rng(0)
    for number in range(count):
        depth = np.full((24, 32), 2.0 + number, np.float32)
        depth[:4], depth[4:6] = 0, 80  # unknown; farther than can be written
        frames.write_room(out, number, 'office', [
            (rng.integers(0, 255, (24, 32, 3), np.uint8).astype(np.uint8), depth,
             view(0.2 + 0.5 * i), 95) for i in range(2)])


def test_frames_are_what_training_reads(tmp_path):
    settings = {'views': 2}
    frames.claim(tmp_path / 'set', settings)
    write_rooms(tmp_path / 'set', 3)
    rows = frames.gather(tmp_path / 'set')
    assert len(rows) == 6
    for path in (tmp_path / 'set', tmp_path / 'set' / 'frames.csv'):
        dataset = open_dataset(path)
        assert len(dataset) == 6
        rgb, depth = dataset.read(4)
        assert rgb.shape == (24, 32, 3) and depth[10, 10] == 4.0
        assert (depth[:6] == 0).all()
        assert dataset.focal(4) == pytest.approx(view().fx_per_width, abs=1e-4)
    dataset = open_dataset(tmp_path / 'set')
    assert [dataset.number(i) for i in range(6)] == [0, 0, 1, 1, 2, 2]  # cut by rooms
    assert [dataset.height(i) for i in range(2)] == [0.2, 0.7]
    assert len(dataset.numbered([[1, 2]])) == 4


def test_a_killed_generation_goes_on(tmp_path):
    out = tmp_path / 'set'
    frames.claim(out, {'seed': 1})
    write_rooms(out, 2)
    (out / 'room_00002.partial').mkdir()  # killed in the middle of it
    frames.claim(out, {'seed': 1})
    assert frames.missing(out, 4) == [2, 3]
    with pytest.raises(OSError, match='another seed'):
        frames.claim(out, {'seed': 2})
    (tmp_path / 'else').mkdir()
    (tmp_path / 'else' / 'thesis.tex').touch()
    with pytest.raises(OSError, match='not empty'):
        frames.claim(tmp_path / 'else', {'seed': 1})


def test_what_people_look_at(tmp_path):
    frames.claim(tmp_path / 'set', {})
    write_rooms(tmp_path / 'set', 3)
    rows = frames.gather(tmp_path / 'set')
    frames.contact_sheet(tmp_path / 'set', rows)
    assert cv2.imread(str(tmp_path / 'set' / 'contact.png')).shape[1] == 1800
    table = frames.distribution(tmp_path / 'set', rows)
    assert '6 frames of 3 rooms' in table and 'camera height' in table
    assert re.search(r'0\.2 to 0\.35 +50\.0%', table)
    assert re.search(r'\n  room +100\.0%', table) and re.search(r'\n  office +100\.0%', table)
    assert {row['kind'] for row in rows} == {'room'}
    for row, kind in zip(rows, ('near', 'plain', 'near', 'near', 'near', 'near')):
        row['kind'] = kind
    frames.contact_sheet(tmp_path / 'set', rows)  # plain is alone in the second of two lines
    by_kind = cv2.imread(str(tmp_path / 'set' / 'contact.png'))
    first, second = (line.max((0, 2)) > 40 for line in np.array_split(by_kind, 2))
    assert first.mean() > 0.8 and second[:280].mean() > 0.9 and not second[320:].any()


@pytest.mark.parametrize('arguments, sentence', [
    (['--height', '1.7', '0.2'], '--height is 1.7 0.2'),
    (['--fov', '0', '200'], '--fov is 0.0 200.0'),
    (['--rooms', '0'], '--rooms is 0'),
    (['--size', '8', '8'], '--size is 8 8'),
    (['--height', 'nan', '1'], '--height is nan'),
    (['--kinds', 'near'], "'near' is no KIND=SHARE"),
    (['--kinds', 'far=1'], "'far=1' is no KIND=SHARE"),
    (['--kinds', 'near=-1'], "'near=-1' is no KIND=SHARE"),
    (['--kinds', 'near=0'], '--kinds has no share above 0'),
])
def test_options_that_will_not_do(arguments, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(['--out', str(tmp_path / 'set'), *arguments])
    assert sentence in capsys.readouterr().err


def test_without_infinigen_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(command, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        command.main(['--out', str(tmp_path / 'set')])
    assert "pip install -e '.[synthetic]'" in str(stopped.value.code)
    assert not (tmp_path / 'set').exists()


def test_a_piece_is_given_up_by_its_own_work_not_by_a_busy_machine():
    with time_limit(0.2):
        time.sleep(0.5)
    with pytest.raises(TimeoutError, match=r'took more than 0\.2 s'), time_limit(0.2):
        while True:
            pass
    end = time.process_time() + 0.3
    while time.process_time() < end:  # the limit is gone
        pass


def test_every_kind_of_furniture_has_a_factory():
    from train.synthetic.assets import FURNITURE, SURFACES
    assert set(PIECES) <= set(FURNITURE)
    for number in range(40):
        for kind, _ in compose([number], CATALOGUE).surfaces.values():
            assert kind in SURFACES


@pytest.mark.skipif('bpy' not in sys.modules and not command.find_spec('infinigen'),
                    reason='infinigen and bpy are not installed')
def test_a_room_is_rendered(tmp_path):
    out = tmp_path / 'set'
    command.main(['--out', str(out), '--rooms', '1', '--views', '1', '--size', '64', '48',
                  '--samples', '1', '--processes', '1'])
    assert len(open_dataset(out)) == 1
