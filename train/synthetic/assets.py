"""Furniture and materials from Infinigen, made once and kept in a folder.

Infinigen Indoors (Raistrick et al., CVPR 2024) makes every chair, shelf and material from a seed;
its factories' asset n is the same each time. Pieces are kept as .blend files, surfaces as images,
so that a room takes seconds.
"""

import contextlib
import json
import random
import signal
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.files import atomic_write

MAX_FACES = 60_000       # of a piece; more is thinned out
SURFACE_METRES, SURFACE_PIXELS = 3.0, 1024
SPAWN_SECONDS = 120      # of processor time for a piece, so that a busy machine gives none up
FURNITURE = {            # kind → infinigen.assets.objects.MODULE
    **dict.fromkeys(('Sofa', 'ArmChair', 'BedFrame', 'Mattress', 'Chair', 'BarChair',
                     'OfficeChair', 'Pillow'), 'seating'),
    **dict.fromkeys(('TableDining', 'SideTable', 'CoffeeTable', 'TableCocktail'), 'tables'),
    **dict.fromkeys(('TriangleShelf', 'CellShelf', 'TVStand', 'SingleCabinet', 'KitchenCabinet',
                     'SimpleBookcase', 'SimpleDesk', 'SidetableDesk', 'LargeShelf',
                     'KitchenIsland'), 'shelves'),
    **dict.fromkeys(('Microwave', 'Dishwasher', 'BeverageFridge', 'Oven', 'TV',
                     'Monitor'), 'appliances'),
    **dict.fromkeys(('Rug', 'Pallet'), 'elements'),
    **dict.fromkeys(('WallArt', 'WallShelf'), 'wall_decorations'),
    **dict.fromkeys(('BookColumn', 'BookStack', 'Vase'), 'table_decorations'),
    **dict.fromkeys(('Pot', 'Bottle', 'Jar', 'Bowl', 'FoodBox', 'Cup', 'Pan',
                     'LargePlantContainer'), 'tableware'),
    **dict.fromkeys(('StandingSink', 'Bathtub', 'Toilet'), 'bathroom'),
    **dict.fromkeys(('DeskLamp', 'FloorLamp', 'CeilingLight', 'CeilingClassicLamp'), 'lamp'),
    'BasketBase': 'organizer',
    'SnakePlant': 'small_plants',
}
SURFACES = {             # kind → Infinigen's list of materials; None: a plain colour of ours
    'floor_wood': 'wood_tiles', 'floor_tile': 'bathroom_floor', 'floor_carpet': 'rug',
    'floor_concrete': 'garage_floor', 'plaster': 'wall_plaster', 'wall_tile': 'bathroom_wall',
    'brick': 'brick', 'wood': 'woods', 'marble': 'marble', 'fabric': 'fabrics',
    'paint': None, 'metal': None, 'cardboard': None, 'plastic': None,
    'print': 'drawn', 'screen': 'drawn',
}
DRAWN_METRES = {'print': 0.4, 'screen': 0.8}  # how wide the image of a drawn surface is


def start() -> Any:
    """Import Blender as a module, offline. Raises ModuleNotFoundError where it isn't installed."""
    import bpy
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.system.use_online_access = False
    return bpy


class Assets:
    """Pieces and surfaces in a folder; what is missing is made when first asked for.

    variants: how many of each kind there are. seed: another seed, other furniture. Files appear
    whole or not at all, so that several processes may share a folder.
    """

    def __init__(self, folder: str | Path, variants: int, seed: int = 0) -> None:
        self.folder, self._variants, self.surface_variants = Path(folder), variants, variants
        self.seed = seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self._bounds: dict[tuple[str, int], tuple[Sequence[float], Sequence[float]]] = {}

    def variants(self, kind: str) -> int:
        return self._variants

    def bounds(self, kind: str, number: int) -> tuple[Sequence[float], Sequence[float]]:
        """(low, high) of a piece, m, in its own frame. A piece that can't be made is a cube."""
        if (kind, number) not in self._bounds:
            index = self.folder / f'{kind}_{number:03d}.json'
            if not index.is_file():
                make_piece(kind, number, self.seed, index.with_suffix('.blend'), index)
            self._bounds[kind, number] = tuple(json.loads(index.read_text())['bounds'])
        return self._bounds[kind, number]

    def piece(self, kind: str, number: int) -> Path | None:
        """The .blend file of a piece; None where it couldn't be made."""
        path = self.folder / f'{kind}_{number:03d}.blend'
        return path if path.is_file() else None

    def surface(self, kind: str, number: int) -> Path | None:
        """The image of a surface, ``SURFACE_METRES`` wide; None: a plain colour."""
        if not SURFACES[kind]:
            return None
        path = self.folder / f'{kind}_{number:03d}.png'
        if not path.is_file():
            make_surface(kind, number, self.seed, path)
        return path


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds of this process's work, in whatever runs."""
    def ring(*_: object) -> None:
        raise TimeoutError(f'took more than {seconds} s of processor time')
    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _number(*parts: object) -> int:
    """A seed of 31 bits from names and numbers, the same in every process."""
    return zlib.crc32('/'.join(map(str, parts)).encode()) & 0x7FFFFFFF


def make_piece(kind: str, number: int, seed: int, path: Path, index: Path) -> None:
    """Let Infinigen make a piece of furniture; write it and its bounds."""
    import importlib

    import bpy
    from infinigen.core.util.math import FixedSeed
    bpy.ops.wm.read_factory_settings(use_empty=True)
    seed = _number(seed, kind, number)
    bounds = None
    try:
        module = importlib.import_module(f'infinigen.assets.objects.{FURNITURE[kind]}')
        with time_limit(SPAWN_SECONDS), FixedSeed(seed):
            factory = getattr(module, f'{kind}Factory')(seed)
            thing = factory.spawn_asset(0)
            with contextlib.suppress(AttributeError, KeyError, IndexError, ValueError):
                factory.finalize_assets([thing])
            thing = _joined(thing)
            _thin(thing)
            for material in thing.data.materials:
                _without_displacement(material)
            corners = np.array([list(corner) for corner in thing.bound_box])
            bounds = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        thing.name = 'piece'
        with atomic_write(path, shared=True) as partial:
            bpy.data.libraries.write(str(partial), {thing}, compress=True)
    except Exception as error:  # a factory that fails costs a piece, not the night
        print(f'{kind} {number}: {type(error).__name__}: {error}', flush=True)
    with atomic_write(index, shared=True) as partial:
        partial.write_text(json.dumps({'bounds': bounds or ((-0.2,) * 3, (0.2,) * 3)}))


def _joined(thing: Any) -> Any:
    """An object and its children as one mesh, transforms applied."""
    import bpy
    bpy.ops.object.select_all(action='DESELECT')
    meshes = [part for part in (thing, *thing.children_recursive) if part.type == 'MESH']
    if not meshes:
        raise ValueError('it has no mesh')
    for part in meshes:
        part.hide_set(False)
        part.select_set(True)
    bpy.context.view_layer.objects.active = meshes[0]
    bpy.ops.object.convert(target='MESH')
    if len(meshes) > 1:
        bpy.ops.object.join()
    thing = bpy.context.view_layer.objects.active
    thing.parent = None
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
    return thing


def _thin(thing: Any) -> None:
    """At most about MAX_FACES faces."""
    import bpy
    faces = len(thing.data.polygons)
    if faces > MAX_FACES:
        thin = thing.modifiers.new('thin', 'DECIMATE')
        thin.ratio = MAX_FACES / faces
        bpy.context.view_layer.objects.active = thing
        bpy.ops.object.modifier_apply(modifier=thin.name)


def _without_displacement(material: Any) -> None:
    """Bumps cost three evaluations of a material at each hit, and hardly show."""
    if material and material.use_nodes:
        for node in material.node_tree.nodes:
            if node.type == 'OUTPUT_MATERIAL':
                for name in ('Displacement', 'Volume'):
                    for link in list(node.inputs[name].links):
                        material.node_tree.links.remove(link)


def _materials(kind: str) -> list[Any]:
    """Classes of Infinigen's materials for a kind of surface."""
    import infinigen.assets.composition.material_assignments as assignments
    from infinigen.assets.materials import ceramic, fabric
    if SURFACES[kind] == 'rug':
        return [fabric.Rug]
    if SURFACES[kind] == 'brick':
        return [ceramic.Brick]
    return [entry[0] for entry in getattr(assignments, str(SURFACES[kind])) if entry[1] > 0]


def make_surface(kind: str, number: int, seed: int, path: Path) -> None:
    """Bake a material's colour on a square of SURFACE_METRES; grey where it can't be made."""
    import bpy
    from infinigen.core.util.math import FixedSeed
    bpy.ops.wm.read_factory_settings(use_empty=True)
    seed = _number(seed, kind, number)
    pixels = np.full((SURFACE_PIXELS, SURFACE_PIXELS, 3), 150, np.uint8)
    if SURFACES[kind] == 'drawn':
        from train.synthetic.drawn import draw_page
        page = cv2.imencode('.png', draw_page(seed, kind == 'screen'))[1]
        with atomic_write(path, shared=True) as partial:
            partial.write_bytes(page.tobytes())
        return
    try:
        with time_limit(SPAWN_SECONDS), FixedSeed(seed):
            choice = random.Random(seed).choice(_materials(kind))()
            material = choice.generate() if hasattr(choice, 'generate') else choice()
            _without_displacement(material)
            pixels = _bake(material)
    except Exception as error:
        print(f'{kind} {number}: {type(error).__name__}: {error}', flush=True)
    with atomic_write(path, shared=True) as partial:
        partial.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


def _bake(material: Any) -> npt.NDArray[np.uint8]:
    import bpy
    bpy.ops.mesh.primitive_plane_add(size=SURFACE_METRES)
    square = bpy.context.object
    square.data.materials.append(material)
    metres = square.data.uv_layers.active
    baked = square.data.uv_layers.new(name='baked')
    for loop in metres.data:
        loop.uv = loop.uv[0] * SURFACE_METRES, loop.uv[1] * SURFACE_METRES
    metres.active_render = True
    square.data.uv_layers.active = baked
    image = bpy.data.images.new('baked', SURFACE_PIXELS, SURFACE_PIXELS)
    node = material.node_tree.nodes.new('ShaderNodeTexImage')
    node.image = image
    material.node_tree.nodes.active = node
    scene = bpy.context.scene
    scene.render.engine = 'CYCLES'
    scene.cycles.samples = 2
    scene.render.threads_mode, scene.render.threads = 'FIXED', 1
    bpy.ops.object.select_all(action='DESELECT')
    square.select_set(True)
    bpy.context.view_layer.objects.active = square
    bpy.ops.object.bake(type='DIFFUSE', pass_filter={'COLOR'}, margin=0)
    rgba = np.empty(SURFACE_PIXELS * SURFACE_PIXELS * 4, np.float32)
    image.pixels.foreach_get(rgba)
    rgb = rgba.reshape(SURFACE_PIXELS, SURFACE_PIXELS, 4)[::-1, :, :3]
    return np.clip(np.rint(rgb[..., ::-1] * 255), 0, 255).astype(np.uint8)
