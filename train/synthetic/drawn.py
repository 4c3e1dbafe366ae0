"""Printed pages and screens, drawn by chance: lines of text, windows, pictures, tables."""

import cv2
import numpy as np
import numpy.typing as npt

PIXELS = 1024


def draw_page(seed: int, screen: bool) -> npt.NDArray[np.uint8]:
    """A square page, uint8 BGR 1024×1024; of a screen: windows on a background."""
    rng = np.random.default_rng(seed)
    dark = rng.random() < (0.5 if screen else 0.1)
    page = np.empty((PIXELS, PIXELS, 3), np.uint8)
    page[:] = _colour(rng, (15, 70) if dark else (170, 255))
    if screen:
        step = rng.uniform(0, 60) * np.linspace(0, 1, PIXELS)[:, None, None]
        page = np.clip(page + step, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(3, 9))):
        left, top = rng.integers(0, PIXELS - 200, 2)
        wide, high = rng.integers(150, 600, 2)
        _block(page, rng, left, top, min(wide, PIXELS - left), min(high, PIXELS - top), screen)
    return page


def _colour(rng: np.random.Generator, levels: tuple[int, int]) -> npt.NDArray[np.float64]:
    grey = rng.uniform(*levels)
    return np.clip(grey + rng.normal(0, 12, 3), 0, 255)


def _block(page: npt.NDArray[np.uint8], rng: np.random.Generator, left: int, top: int, wide: int,
           high: int, screen: bool) -> None:
    """Text, a picture, a diagram or a table in a part of the page."""
    part = page[top:top + high, left:left + wide]
    if screen or rng.random() < 0.25:
        part[:] = _colour(rng, (10, 250))
        part[:24 if screen else 0] = _colour(rng, (10, 250))
    ink = _colour(rng, (0, 90)) if part.mean() > 120 else _colour(rng, (150, 255))
    chance = rng.random()
    if chance < 0.6:
        size = int(rng.integers(6, 22))
        for row in range(30, high - size, 2 * size):
            at = 8
            end = wide * rng.uniform(0.3, 0.95)
            while at < end:
                word = int(rng.integers(size, 6 * size))
                for letter in range(at, int(min(at + word, end)), max(3, size // 2)):
                    cut = int(rng.integers(0, size // 2 + 1))
                    part[row + cut:row + size, letter:letter + max(1, size // 4)] = ink
                at += word + size // 2
    elif chance < 0.8:
        noise = rng.integers(0, 255, (int(rng.integers(3, 12)), int(rng.integers(3, 12)), 3))
        part[30:] = cv2.resize(noise.astype(np.uint8), (wide, high),
                               interpolation=cv2.INTER_CUBIC)[30:]
    else:
        for at in np.linspace(10, wide - 2, int(rng.integers(3, 9))).astype(int):
            part[30:, at:at + 2] = ink
        for at in np.linspace(30, high - 2, int(rng.integers(3, 12))).astype(int):
            part[at:at + 2] = ink
