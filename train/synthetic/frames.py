"""The frames of a data set on disk, room by room, and what people look at first.

``train.nyu --data OUT`` reads ``OUT/frames.csv`` (image, depth in millimetres, fx in pixels, room,
its kind, the view's kind, height, pitch, roll). A room's folder appears when all of it is there,
so that a generation that was killed goes on where it was.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.encodings import depth_to_millimetres
from hybrid_depth_ros.files import atomic_write
from hybrid_depth_ros.image_files import save_image
from hybrid_depth_ros.visualization import colour_depth, depth_range
from train.synthetic.views import View

COLUMNS = ('image', 'depth', 'fx', 'room', 'room_kind', 'kind', 'height', 'pitch', 'roll')
# image uint8 H×W×3 RGB, depth float H×W (m, 0: unknown), its camera, JPEG quality
Frame = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], View, int]


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or find an earlier run with the same settings.

    settings: what decides a frame. Raises OSError where other frames lie there.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / 'settings.json'
    if path.is_file():
        earlier = json.loads(path.read_text())
        if earlier != settings:
            other = ', '.join(key for key in settings if earlier.get(key) != settings[key])
            raise OSError(f'{out} holds frames that were made with another {other}; give the same, '
                          'or choose another --out')
        return
    if any(out.iterdir()):
        raise OSError(f'{out} is not empty, and no frames of train.synthetic are in it; choose '
                      'another --out')
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(settings, indent=2) + '\n')


def room_folder(out: Path, number: int) -> Path:
    return out / f'room_{number:05d}'


def missing(out: Path, rooms: int) -> list[int]:
    """Numbers of the rooms that are still to be made."""
    return [number for number in range(rooms) if not room_folder(out, number).is_dir()]


def write_room(out: Path, number: int, kind: str, frames: Iterable[Frame]) -> None:
    """Write a room's frames: (image uint8 RGB, depth m, view, JPEG quality), all or none."""
    folder = room_folder(out, number)
    shutil.rmtree(folder.with_name(f'{folder.name}.partial'), ignore_errors=True)  # of one killed
    with atomic_write(folder, folder=True) as partial:
        rows: list[tuple[object, ...]] = []
        for i, (image, depth, view, quality) in enumerate(frames):
            name = f'{i:02d}'
            cv2.imwrite(str(partial / f'{name}.jpg'), image[..., ::-1],
                        [cv2.IMWRITE_JPEG_QUALITY, quality])
            cv2.imwrite(str(partial / f'{name}.png'), depth_to_millimetres(depth))
            rows.append((f'{folder.name}/{name}.jpg', f'{folder.name}/{name}.png',
                         f'{view.fx_per_width * image.shape[1]:.3f}', number, kind, view.kind,
                         f'{view.height:.3f}', f'{view.pitch:.2f}', f'{view.roll:.2f}'))
        with open(partial / 'frames.csv', 'w', newline='') as file:
            csv.writer(file).writerows((COLUMNS, *rows))


def gather(out: Path) -> list[dict[str, str]]:
    """Write ``frames.csv`` of all rooms that are there; returns its rows as dicts."""
    rows: list[dict[str, str]] = []
    for index in sorted(out.glob('room_*/frames.csv')):
        with open(index, newline='') as file:
            rows += csv.DictReader(file)
    with atomic_write(out / 'frames.csv') as partial, open(partial, 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _read(out: Path, row: dict[str, str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    image = cv2.cvtColor(cv2.imread(str(out / row['image'])), cv2.COLOR_BGR2RGB)
    millimetres = np.asarray(cv2.imread(str(out / row['depth']), cv2.IMREAD_UNCHANGED))
    depth = millimetres / np.float32(1000)
    return image, np.where(depth > 0, depth, np.nan)


def contact_sheet(out: Path, rows: list[dict[str, str]], count: int = 36, columns: int = 6) -> None:
    """``contact.png``: frames from all over the set, each above its depth; a line for each kind."""
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        kinds.setdefault(row['kind'], []).append(row)
    each = columns if len(kinds) > 1 else count
    tiles: list[npt.NDArray[np.uint8]] = []
    for _, of_kind in sorted(kinds.items()):
        for i in np.linspace(0, len(of_kind) - 1, min(each, len(of_kind))).astype(int):
            image, depth = _read(out, of_kind[i])
            tile = np.vstack((image, colour_depth(depth, *depth_range(depth))))
            if tiles and tile.shape != tiles[0].shape:  # a portrait one
                tile = _fitted(tile, tiles[0].shape[:2])
            tiles.append(tile)
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)])
    height, width = sheet.shape[:2]
    save_image(out / 'contact.png', cv2.resize(sheet, (1800, round(1800 * height / width)),
                                                 interpolation=cv2.INTER_AREA))


def _fitted(image: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image in the middle of a black one of `shape` (H, W)."""
    scale = min(shape[0] / image.shape[0], shape[1] / image.shape[1])
    small = cv2.resize(image, (max(1, int(scale * image.shape[1])),
                               max(1, int(scale * image.shape[0]))), interpolation=cv2.INTER_AREA)
    fitted = np.zeros((*shape, 3), np.uint8)
    top, left = ((whole - part) // 2 for whole, part in zip(shape, small.shape[:2]))
    fitted[top:top + small.shape[0], left:left + small.shape[1]] = small
    return fitted


def distribution(out: Path, rows: list[dict[str, str]]) -> str:
    """A table of what the frames are: kinds of rooms, heights, lenses, pitch, depth."""
    sample = rows[::max(1, len(rows) // 300)]
    depths = np.concatenate([depth[np.isfinite(depth)][::97] for depth in
                             (_read(out, row)[1] for row in sample)])
    width = _read(out, rows[0])[0].shape[1]
    fov = [2 * np.degrees(np.arctan(width / 2 / float(row['fx']))) for row in rows]
    lines = [f'{len(rows)} frames of {len({row["room"] for row in rows})} rooms']
    for title, column in (('views', 'kind'), ('rooms', 'room_kind')):
        kinds = [row[column] for row in rows]
        lines.append(f'{title}, share of frames')
        lines += [f'  {kind:16}{kinds.count(kind) / len(rows):6.1%}' for kind in
                  sorted(set(kinds))]
    by_kind: dict[str, list] = {}
    for row in sample:
        depth = _read(out, row)[1]
        by_kind.setdefault(row['kind'], []).append(np.append(
            np.nanpercentile(depth, [5, 50, 95]), float(row['pitch'])))
    lines.append('view: depth that 5, 50 and 95 % of the pixels are below (m), pitch (°), medians')
    lines += [f'  {kind:8}' + ''.join(f'{value:8.2f}' for value in np.median(values, axis=0))
              for kind, values in sorted(by_kind.items())]
    for title, values, edges, of in (
            ('camera height (m)', [float(row['height']) for row in rows],
             (0, .2, .35, .6, 1, 1.4, 9), 'frames'),
            ('field of view (°)', fov, (0, 50, 60, 70, 80, 90, 180), 'frames'),
            ('pitch (°, up)', [float(row['pitch']) for row in rows],
             (-90, -20, -10, 0, 10, 90), 'frames'),
            ('depth (m)', depths, (0, .5, 1, 2, 3, 5, 8, 99), 'pixels')):
        counts, _ = np.histogram(values, edges)
        lines.append(f'{title}, share of {of}; median {np.median(values):.2f}')
        lines += [f'  {low:>5g} to {high:<5g}{count / max(1, counts.sum()):6.1%}'
                  for low, high, count in zip(edges, edges[1:], counts)]
    return '\n'.join(lines)
