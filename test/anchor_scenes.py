"""True depth of virtual rooms, depth as a network may see it, and anchors measured there."""

import cv2
import numpy as np

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)


def wrong(depth, seed=0, scale=1.4):
    """Depth as a network may see it: another scale, tilted, bent, soft at its outlines."""
    rng = np.random.default_rng(seed)
    height, width = depth.shape
    bent = cv2.resize(rng.normal(0, 0.1, (4, 5)).astype(np.float32), (width, height),
                      interpolation=cv2.INTER_CUBIC)
    tilt = np.linspace(-0.15, 0.15, width, dtype=np.float32)
    return cv2.GaussianBlur(depth, (0, 0), 6) * np.float32(scale) * np.exp(bent + tilt)


def delta1(depth, truth):
    return float((np.maximum(depth / truth, truth / depth) < 1.25).mean())


def room_pairs():
    """(true depth, depth as a network may see it) of four places in two rooms."""
    pairs = []
    for seed in (3, 4):
        room = Room(seed)
        for seconds in (5, 35):
            truth = room.render(CAMERA, room.camera_pose(seconds))[1]
            pairs.append((truth, wrong(truth, seed + seconds)))
    return pairs


def measured(truth, u, v, rng, noise=0.01, outliers=0.05):
    depth = truth[v, u] * (1 + noise * rng.standard_normal(u.size))
    gross = rng.random(u.size) < outliers
    depth[gross] = rng.uniform(0.3, 10, gross.sum())
    return Anchors(u, v, depth), gross


def scan(truth, rng, beams=160, row=260, **options):
    return measured(truth, np.linspace(2, 637, beams).astype(int), np.full(beams, row), rng,
                    **options)


def points(truth, rng, count=200, **options):
    return measured(truth, rng.integers(0, 640, count), rng.integers(0, 480, count), rng, **options)
