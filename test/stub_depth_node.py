"""The depth node with a predictor that sees a tilted plane and a sphere, exactly.

``python stub_depth_node.py SECONDS [SCALE]``: what each prediction takes (below 0: the real
predictor), and what depth is wrong by; ``relative``: it gives no metres; ``loads``: weights are
loaded as :class:`SlowlyLoaded`. ``--warnings-every``: seconds between two about the same trouble.
/diagnostics come five times a second.
"""

import argparse
import sys
import time
from types import SimpleNamespace

import numpy as np

from hybrid_depth_ros.predictor import Prediction

# The camera of the test scene, at 160×120.
WIDTH, HEIGHT, FX, FY, CX, CY = 160, 120, 150.0, 140.0, 82.5, 57.25
PLANE_NORMAL, PLANE_DISTANCE = np.array([0.2, -0.3, 1.0]) / np.sqrt(1.13), 2.5
SPHERE_CENTRE, SPHERE_RADIUS = np.array([0.3, 0.2, 1.8]), 0.4


def scene_depth(width, height):
    """Depth of the scene through the camera read out at width×height; float32, metres."""
    sx, sy = width / WIDTH, height / HEIGHT
    x = (np.arange(width) - CX * sx) / (FX * sx)
    y = (np.arange(height) - CY * sy) / (FY * sy)
    rays = np.stack(np.broadcast_arrays(x, y[:, None], 1.0), axis=-1)
    plane = PLANE_DISTANCE / (rays @ PLANE_NORMAL)
    a, b = (rays ** 2).sum(-1), rays @ SPHERE_CENTRE
    discriminant = b ** 2 - a * ((SPHERE_CENTRE ** 2).sum() - SPHERE_RADIUS ** 2)
    sphere = np.where(discriminant > 0, (b - np.sqrt(np.maximum(discriminant, 0))) / a, np.inf)
    return np.minimum(plane, sphere).astype(np.float32)


class ScenePredictor:
    """A DepthEstimator of the scene."""

    device = 'stub'

    def __init__(self, seconds, scale=1.0):
        self.relative = scale == 'relative'
        self.seconds, self.scale = seconds, 1 if self.relative else np.float32(scale)

    def __call__(self, images, focals):
        time.sleep(self.seconds)
        depths = [self.scale * scene_depth(rgb.shape[1], rgb.shape[0]) for rgb in images]
        if self.relative:
            return [37 * (1 / depth - np.float32(0.05)) for depth in depths]
        return depths

    def predict(self, images, focals, options):
        """The left half of each image may be off by a tenth of its depth, the right by four."""
        predictions = []
        for depth in self(images, focals):
            share = np.where(np.arange(depth.shape[1]) < depth.shape[1] // 2, 0.1, 0.4)
            predictions.append(Prediction(depth, not self.relative,
                                          (share * depth).astype(np.float32)))
        return predictions


class SlowlyLoaded(ScenePredictor):
    """Stands in for DepthPredictor: other weights than lite-nyu take LOAD_SECONDS to load.

    Depth by lite-nyu is right, by paper-nyu it is twice as far; no others can be loaded.
    """

    LOAD_SECONDS = 3.0
    model, reason = SimpleNamespace(notes=()), 'of a test'

    def __init__(self, weights, *_, **__):
        super().__init__(0.0, {'lite-nyu': 1.0}.get(weights, 2.0))
        if weights != 'lite-nyu':
            time.sleep(self.LOAD_SECONDS)
        if weights not in ('lite-nyu', 'paper-nyu'):
            raise OSError(f'{weights}: the hub does not answer')

    def predict(self, images, focals=None, options=None):
        return super().predict(images, focals, options) if isinstance(images, list) else None


if __name__ == '__main__':
    from hybrid_depth_ros.nodes.depth import camera_stream, node
    parser = argparse.ArgumentParser()
    parser.add_argument('seconds', type=float)
    parser.add_argument('scale', nargs='?', default=1.0)
    parser.add_argument('--warnings-every', type=float, default=camera_stream.WARNING_INTERVAL)
    own = sys.argv[1:sys.argv.index('--ros-args')] if '--ros-args' in sys.argv else sys.argv[1:]
    options = parser.parse_args(own)
    camera_stream.WARNING_INTERVAL = options.warnings_every
    node.DIAGNOSTICS_INTERVAL = 0.2
    seconds = options.seconds
    if options.scale == 'loads':
        node.DepthPredictor, seconds = SlowlyLoaded, -1.0
    sys.exit(node.main(predictor=ScenePredictor(seconds, options.scale) if seconds >= 0 else None))
