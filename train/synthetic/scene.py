"""A room in Blender's scene, and images of it with depth, by Cycles."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.synthetic.assets import DRAWN_METRES, SURFACE_METRES, Assets, start
from train.synthetic.parts import CORNERS, Block, FurnishedRoom, Pane, Piece
from train.synthetic.views import Cast, View

os.environ.setdefault('OPENCV_IO_ENABLE_OPENEXR', '1')


def build(room: FurnishedRoom, assets: Assets, rng: np.random.Generator) -> Any:
    """Put a :class:`train.synthetic.parts.FurnishedRoom` into Blender's scene, empty until then."""
    for piece in room.pieces:     # made before the scene is begun: making empties it
        assets.bounds(piece.kind, piece.number)
    for kind, number in room.surfaces.values():
        assets.surface(kind, number)
    bpy = start()
    surfaces = {name: _surface(*which, assets, rng, name) for name, which in
                room.surfaces.items()}
    _add_boxes(bpy, room.boxes, surfaces)
    for pane in room.panes:
        _add_pane(bpy, pane)
    for piece in room.pieces:
        path = assets.piece(piece.kind, piece.number)
        if path:
            _add_piece(bpy, path, piece)
    for lamp in room.lamps:
        light = bpy.data.lights.new('lamp', 'AREA')
        light.energy, light.size, light.color = lamp.power, lamp.size, lamp.colour
        thing = bpy.data.objects.new('lamp', light)
        thing.location = lamp.position
        bpy.context.scene.collection.objects.link(thing)
    if room.sun:
        light = bpy.data.lights.new('sun', 'SUN')
        light.energy, light.angle = room.sun[1], 0.01
        thing = bpy.data.objects.new('sun', light)
        from mathutils import Vector
        thing.rotation_euler = Vector(room.sun[0]).to_track_quat('-Z', 'Y').to_euler()
        bpy.context.scene.collection.objects.link(thing)
    world = bpy.data.worlds.new('world')
    bpy.context.scene.world = world
    world.use_nodes = True
    world.node_tree.nodes['Background'].inputs['Strength'].default_value = 0.05
    return bpy


def _surface(kind: str, number: int, assets: Assets, rng: np.random.Generator, name: str) -> Any:
    """A material: the baked image, tinted a little, or a plain colour."""
    import colorsys

    import bpy
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes['Principled BSDF']
    shader.inputs['Roughness'].default_value = float(rng.uniform(
        *{'floor_tile': (.1, .5), 'wall_tile': (.1, .5), 'marble': (.1, .4), 'metal': (.15, .4),
          'floor_wood': (.2, .7), 'wood': (.25, .8)}.get(kind, (.5, 1.0))))
    path = assets.surface(kind, number)
    if path is None:
        hue, strong = rng.random(), rng.choice([0.03, 0.1, 0.25, 0.5], p=[.5, .25, .15, .1])
        value = rng.uniform(0.25, 0.9)
        if kind == 'cardboard':
            hue, strong, value = rng.uniform(0.07, 0.1), rng.uniform(0.4, 0.6), rng.uniform(.25, .5)
        if kind == 'plastic':
            value = rng.uniform(0.02, 0.9)
            shader.inputs['Roughness'].default_value = float(rng.uniform(0.15, 0.8))
        if kind == 'metal':
            strong = 0.03
            shader.inputs['Metallic'].default_value = 1.0
        colour = (*colorsys.hsv_to_rgb(hue, strong, value), 1.0)
        shader.inputs['Base Color'].default_value = colour
        if kind in ('paint', 'cardboard', 'plastic'):
            _speckle(nodes, links, shader, colour, rng)
        return material
    image, tint = nodes.new('ShaderNodeTexImage'), nodes.new('ShaderNodeHueSaturation')
    finer = 1.0   # a baked surface is coarse to a close camera; what is drawn is a page or a screen
    if kind in DRAWN_METRES:
        finer = SURFACE_METRES / DRAWN_METRES[kind]
    elif kind in ('plaster', 'fabric', 'marble', 'wood', 'floor_carpet', 'floor_concrete'):
        finer = float(rng.uniform(0.8, 2.5))
    place, mapping = nodes.new('ShaderNodeTexCoord'), nodes.new('ShaderNodeMapping')
    mapping.inputs['Scale'].default_value = (finer, finer, 1.0)
    links.new(place.outputs['UV'], mapping.inputs['Vector'])
    links.new(mapping.outputs['Vector'], image.inputs['Vector'])
    image.image = bpy.data.images.load(str(path), check_existing=True)
    image.extension = 'MIRROR'
    tint.inputs['Hue'].default_value = 0.5 + float(rng.normal(0, 0.02))
    tint.inputs['Saturation'].default_value = float(rng.uniform(0.5, 1.1))
    tint.inputs['Value'].default_value = float(rng.uniform(0.6, 1.3))
    links.new(image.outputs['Color'], tint.inputs['Color'])
    links.new(tint.outputs['Color'], shader.inputs['Base Color'])
    if kind == 'screen':
        links.new(tint.outputs['Color'], shader.inputs['Emission Color'])
        shader.inputs['Emission Strength'].default_value = float(rng.choice([0.0, 1.0, 3.0]))
        shader.inputs['Roughness'].default_value = float(rng.uniform(0.05, 0.4))
    return material


def _speckle(nodes: Any, links: Any, shader: Any, colour: Sequence[float],
             rng: np.random.Generator) -> None:
    """Grain and stains on a plain colour: what a close camera sees of it."""
    from_colour = nodes.new('ShaderNodeMix')
    from_colour.data_type = 'RGBA'
    place, noise = nodes.new('ShaderNodeTexCoord'), nodes.new('ShaderNodeTexNoise')
    noise.inputs['Scale'].default_value = math.exp(rng.uniform(math.log(1.0), math.log(300.0)))
    noise.inputs['Detail'].default_value = 3.0
    links.new(place.outputs['Object'], noise.inputs['Vector'])
    strength = float(rng.choice([0.03, 0.1, 0.3], p=[.5, .35, .15]))
    links.new(noise.outputs['Fac'], from_colour.inputs['Factor'])
    for name, factor in (('A', 1 - strength), ('B', 1 + strength)):
        socket = next(one for one in from_colour.inputs
                      if one.name == name and one.type == 'RGBA')
        socket.default_value = (*(min(1.0, factor * channel) for channel in colour[:3]), 1.0)
    out = next(one for one in from_colour.outputs if one.type == 'RGBA')
    links.new(out, shader.inputs['Base Color'])


def _add_boxes(bpy: Any, boxes: list[Block], surfaces: dict[str, Any]) -> None:
    """All boxes of a surface as one mesh, textured in metres."""
    # quads seen from outside, and which axes run across and up each
    faces = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    axes = ((1, 2), (1, 2), (0, 2), (0, 2), (0, 1), (0, 1))
    for name in dict.fromkeys(box.surface for box in boxes):
        points: list[list[float]] = []
        quads: list[list[int]] = []
        uvs: list[tuple[float, float]] = []
        for box in boxes:
            if box.surface == name:
                local = CORNERS * box.size
                first = len(points)
                points += box.corners().tolist()
                for face, (across, up) in zip(faces, axes):
                    quads.append([first + corner for corner in face])
                    uvs += [((local[i, across] + box.centre[across]) / SURFACE_METRES,
                             (local[i, up] + box.centre[up]) / SURFACE_METRES) for i in face]
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(points, [], quads)
        layer = mesh.uv_layers.new(name='metres')
        layer.data.foreach_set('uv', np.ravel(uvs))
        mesh.materials.append(surfaces[name])
        bpy.context.scene.collection.objects.link(bpy.data.objects.new(name, mesh))


def _add_pane(bpy: Any, pane: Pane) -> None:
    """A shining pane, brighter above as the sky is; the sun passes it."""
    (wide, high), (x, y, z) = pane.size, pane.centre
    along = np.array([-math.sin(pane.yaw), math.cos(pane.yaw), 0]) * wide / 2
    up = np.array([0, 0, high / 2])
    mesh = bpy.data.meshes.new('pane')
    mesh.from_pydata([tuple(np.array([x, y, z]) + a * along + b * up)
                      for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))], [], [(0, 1, 2, 3)])
    material = bpy.data.materials.new('pane')
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    shine, output = nodes.new('ShaderNodeEmission'), nodes.new('ShaderNodeOutputMaterial')
    shine.inputs['Color'].default_value = (*pane.colour, 1)
    shine.inputs['Strength'].default_value = pane.strength
    material.node_tree.links.new(shine.outputs[0], output.inputs[0])
    mesh.materials.append(material)
    thing = bpy.data.objects.new('pane', mesh)
    thing.pass_index, thing.visible_shadow = 1, False
    bpy.context.scene.collection.objects.link(thing)


def _add_piece(bpy: Any, path: Path, piece: Piece) -> None:
    with bpy.data.libraries.load(str(path)) as (inside, wanted):
        wanted.objects = [name for name in inside.objects if name == 'piece']
    thing = wanted.objects[0]
    bpy.context.scene.collection.objects.link(thing)
    thing.location, thing.rotation_euler = piece.position, (0, 0, piece.yaw)
    thing.scale = (piece.scale,) * 3
    for material in thing.data.materials:
        if material and material.use_nodes:
            _recolour(material.node_tree, piece)


def _recolour(tree: Any, piece: Piece) -> None:
    """Another hue and brightness for what a material's colour comes from."""
    for node in [node for node in tree.nodes if node.type == 'BSDF_PRINCIPLED']:
        colour = node.inputs['Base Color']
        tint = tree.nodes.new('ShaderNodeHueSaturation')
        tint.inputs['Hue'].default_value = piece.hue
        tint.inputs['Value'].default_value = piece.shade
        if colour.links:
            tree.links.new(colour.links[0].from_socket, tint.inputs['Color'])
        else:
            tint.inputs['Color'].default_value = colour.default_value
        tree.links.new(tint.outputs['Color'], colour)


def caster(bpy: Any) -> Cast:
    """``cast(origin, directions)`` for :func:`train.synthetic.views.sample_views`."""
    from mathutils import Vector
    graph = bpy.context.evaluated_depsgraph_get()

    def cast(origin: npt.NDArray[np.float64],
             directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = np.full(len(directions), np.inf)
        for i, direction in enumerate(directions):
            length = float(np.linalg.norm(direction))
            hit, place, *_ = bpy.context.scene.ray_cast(graph, Vector(origin),
                                                        Vector(direction / length))
            if hit:
                found[i] = (place - Vector(origin)).length / length
        return found
    return cast


def prepare(bpy: Any, size: tuple[int, int], samples: int,
            folder: Path
        ) -> Callable[[View], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Set Cycles up; returns ``render(view)`` → linear light H×W×3, depth H×W (m, 0: unknown)."""
    scene = bpy.context.scene
    width, height = size
    scene.render.engine = 'CYCLES'
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.use_adaptive_sampling = 'CPU', samples, False
    cycles.use_denoising, cycles.denoiser = True, 'OPENIMAGEDENOISE'
    cycles.denoising_prefilter = 'FAST'
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 3, 2
    cycles.transmission_bounces, cycles.transparent_max_bounces = 3, 6
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4
    scene.render.threads_mode, scene.render.threads = 'FIXED', 1
    scene.render.use_persistent_data = True
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = 'OPEN_EXR'
    scene.render.image_settings.color_depth = '16'
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_object_index = True
    depth_of, depth_path = _depth_output(scene, folder)
    camera = bpy.data.objects.new('camera', bpy.data.cameras.new('camera'))
    scene.collection.objects.link(camera)
    scene.camera, camera.data.clip_start = camera, 0.02
    camera.data.sensor_fit = 'HORIZONTAL'

    def render(view: View) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        from mathutils import Matrix
        pose = np.eye(4)
        pose[:3, :3] = view.rotation @ np.diag([1, -1, -1])  # Blender: y up, looks along −z
        pose[:3, 3] = view.position
        camera.matrix_world = Matrix(pose.tolist())
        camera.data.angle = math.radians(view.fov)
        scene.render.resolution_x, scene.render.resolution_y = (
            size[::-1] if view.portrait else size)
        light_path = folder / 'light.exr'
        scene.render.filepath = str(light_path)
        depth_of.file_slots[0].path = 'depth'
        bpy.ops.render.render(write_still=True)
        light, layers = (np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
                         for path in (light_path, depth_path))
        light = light[..., 2::-1]
        blue, green, red = cv2.split(layers[..., :3])
        known = (green < 0.5) & np.isfinite(red) & (red < 60) & (blue == 0)
        return np.ascontiguousarray(light), np.where(known, red, 0).astype(np.float32)
    return render


def _depth_output(scene: Any, folder: Path) -> tuple[Any, Path]:
    """Compositor nodes that write depth (red) and what panes are (green) beside the image."""
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    nodes.clear()
    layers, composite = nodes.new('CompositorNodeRLayers'), nodes.new('CompositorNodeComposite')
    links.new(layers.outputs['Image'], composite.inputs['Image'])
    both, out = nodes.new('CompositorNodeCombineColor'), nodes.new('CompositorNodeOutputFile')
    links.new(layers.outputs['Depth'], both.inputs['Red'])
    links.new(layers.outputs['IndexOB'], both.inputs['Green'])
    links.new(both.outputs['Image'], out.inputs[0])
    out.base_path = str(folder)
    out.format.file_format, out.format.color_mode = 'OPEN_EXR', 'RGB'
    out.format.color_depth = '32'
    return out, folder / 'depth0001.exr'
