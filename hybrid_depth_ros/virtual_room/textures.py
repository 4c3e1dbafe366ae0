"""The looks of surfaces in the virtual room: wood, fabric, books, a window."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


class Texture:
    """An image of `size` metres, repeated, with its half-size copies for distant surfaces.

    Args:
        image: H×W×3 in 0…255, H and W powers of two.
        size: Metres across and down.
    """

    def __init__(self, image: npt.NDArray[np.floating],
                 size: tuple[float, float] | npt.NDArray[np.float64]) -> None:
        height, width = image.shape[:2]
        self.size, self.texel = size, max(size[0] / width, size[1] / height)
        levels: list[npt.NDArray[Any]] = [image]
        while min(levels[-1].shape[:2]) > 1:
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5,
                                     interpolation=cv2.INTER_AREA))
        self._shape = image.shape[:2]
        starts = np.cumsum([0] + [level.shape[0] * level.shape[1] for level in levels[:-1]])
        self._starts = starts.astype(np.int32)
        self._pixels = np.concatenate([level.reshape(-1, 3) for level in levels])

    def look_up(self, u: npt.NDArray[np.floating], v: npt.NDArray[np.floating],
                footprint: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Colours N×3 at u (right) and v (down) metres; footprint: metres seen per pixel."""
        height, width = self._shape
        column = np.floor(u * (width / self.size[0])).astype(np.int32) & (width - 1)
        row = np.floor(v * (height / self.size[1])).astype(np.int32) & (height - 1)
        level = np.log2(np.maximum(footprint / self.texel, 1.0)).astype(np.int32)
        level = np.minimum(level, len(self._starts) - 1)
        index = (self._starts[level] + (row >> level) * (width >> level)
                 + (column >> level))
        return self._pixels[index]


class Painter:
    """Textures from one random generator; colours are RGB 0…255."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def grain(self, height: int, width: int, coarse: int,
              fine: float = 0.0) -> npt.NDArray[np.float32]:
        """Noise around 1, H×W×1, blobs of 1/coarse of the image plus pixel noise."""
        small = self.rng.standard_normal((max(2, coarse), max(2, coarse)), np.float32)
        noise = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        grain: npt.NDArray[np.float32] = (1 + 0.06 * noise + fine * self.rng.standard_normal(
            (height, width), np.float32))[..., None]
        return grain

    def colour(self, low: float = 40, high: float = 215,
               vivid: float = 45) -> npt.NDArray[np.float64]:
        """A grey level of low…high, each channel off it by up to `vivid`."""
        grey = self.rng.uniform(low, high)
        colour: npt.NDArray[np.float64] = np.clip(
            grey + self.rng.uniform(-vivid, vivid, 3), 12, 240)
        return colour

    def plain(self, colour: npt.NDArray[np.float64], fine: float = 0.03,
              size: tuple[float, float] = (1.0, 1.0)) -> Texture:
        """Paint or plaster."""
        return Texture(colour * self.grain(128, 128, 6, fine), size)

    def wood(self, colour: npt.NDArray[np.float64] | None = None) -> Texture:
        """Grain that runs along v, as on upright boards."""
        if colour is None:
            colour = np.array([150, 104, 62]) * self.rng.uniform(0.45, 1.35)
        knots = self.rng.standard_normal((4, 128)).astype(np.float32)
        lines = cv2.resize(knots, (128, 256), interpolation=cv2.INTER_CUBIC)[..., None]
        return Texture((colour * (1 + 0.09 * lines) * self.grain(256, 128, 5, 0.02)
                        ).astype(np.float32), (0.5, 2.0))

    def fabric(self, colour: npt.NDArray[np.float64] | None = None) -> Texture:
        """A weave, striped one time in three."""
        colour = self.colour() if colour is None else colour
        weave = 1 + 0.06 * np.sign(np.sin(np.arange(128) * 1.6))
        image = colour * self.grain(128, 128, 12, 0.05) * (weave[:, None] * weave)[..., None]
        if self.rng.random() < 1 / 3:
            image[:, (np.arange(128) // 16) % 2 == 0] *= 0.78
        return Texture(image.astype(np.float32), (0.32, 0.32))

    def picture(self, size: tuple[float, float] | npt.NDArray[np.float64]) -> Texture:
        """A framed abstract of the size of the face it hangs on."""
        image = np.empty((128, 128, 3), np.float32)
        image[:] = self.colour(80, 220)
        for _ in range(14):
            centre = tuple(int(c) for c in self.rng.integers(0, 128, 2))
            axes = tuple(int(c) for c in self.rng.integers(5, 50, 2))
            cv2.ellipse(image, centre, axes, float(self.rng.uniform(0, 180)), 0, 360,
                        self.colour(20, 240).tolist(), -1)
        image = cv2.GaussianBlur(image, (0, 0), 1.2).astype(np.float32, copy=False)
        cv2.rectangle(image, (0, 0), (127, 127), self.colour(20, 200).tolist(), 9)
        return Texture(image, size)

    def books(self, size: tuple[float, float]) -> Texture:
        """A row of spines."""
        image, left = np.empty((64, 256, 3), np.float32), 0
        while left < 256:
            wide = int(self.rng.integers(6, 20))
            image[:, left:left + wide] = self.colour(25, 220)
            image[:, left:left + 1] *= 0.4
            band = int(self.rng.integers(6, 50))
            image[band:band + int(self.rng.integers(2, 9)), left + 1:left + wide] *= 1.25
            left += wide
        return Texture(np.clip(image, 0, 250), size)

    def window(self, size: tuple[float, float]) -> Texture:
        """Sky, trees and glazing bars."""
        rows = np.linspace(0, 1, 128, dtype=np.float32)[:, None, None]
        sky, horizon = np.array([[196, 220, 250], [236, 240, 240]], np.float32)
        image = np.broadcast_to((1 - rows) * sky + rows * horizon, (128, 128, 3)).copy()
        edge = 78 + 12 * cv2.resize(self.rng.standard_normal((1, 12)).astype(np.float32),
                                    (128, 1), interpolation=cv2.INTER_CUBIC)[0]
        trees = np.arange(128)[:, None] > edge
        image[trees] = (np.array([92, 122, 72], np.float32) * self.grain(128, 128, 24, 0.1))[trees]
        for bar in (0, 60, 120):
            image[:, bar:bar + 8] = image[bar:bar + 8] = 238
        return Texture(image, size)

    def planks(self, height: int, width: int, boards: int) -> npt.NDArray[np.floating]:
        """Floor boards along the rows, H×W×3."""
        colour = np.array([164, 120, 78]) * self.rng.uniform(0.55, 1.2)
        image = np.ones((height, width, 3), np.float32)
        for board in range(boards):
            rows = slice(board * height // boards, (board + 1) * height // boards)
            joints = np.sort(self.rng.integers(0, width, 4))
            for start, end in zip((0, *joints), (*joints, width), strict=True):
                image[rows, start:end] = colour * self.rng.uniform(0.82, 1.15)
                image[rows, max(0, end - 2):end] *= 0.6
            image[rows.start:rows.start + 2] *= 0.6
        streaks = cv2.resize(self.rng.standard_normal((height, 24)).astype(np.float32),
                             (width, height), interpolation=cv2.INTER_LINEAR)
        return image * (1 + 0.05 * streaks[..., None])
