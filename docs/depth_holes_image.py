"""Draw docs/depth_holes.jpg, a depth image with holes before and after: ``python
docs/depth_holes_image.py``.

A walk through a virtual room that nobody trained on. Its depth camera loses 40 % of the pixels.
"""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.anchors import fill_holes
from hybrid_depth_ros.depth_camera import DEPTH_CAMERAS, measured_depth
from hybrid_depth_ros.metrics import DepthErrors
from hybrid_depth_ros.predictor import DepthPredictor
from hybrid_depth_ros.sources import RoomSource
from hybrid_depth_ros.visualization import colour_depth, depth_range, titled

SEED, FRAMES, DRAWN, LOST = 602, range(0, 600, 50), 250, 0.4  # frames: 10 a second


def rel(depth, truth):
    errors = DepthErrors()
    errors.add(depth, truth)
    return errors.metrics()['rel']


def main():
    predictor = DepthPredictor('lite-nyu', precision='fp32', runtime='openvino')
    source, figures = RoomSource(seed=SEED), []
    for number in FRAMES:
        source._count = number
        frame = source.read()
        measured = measured_depth(DEPTH_CAMERAS['realsense'], frame.rgb, frame.depth,
                                  source.intrinsics.fx, np.random.default_rng(number), LOST)
        alone = predictor(frame.rgb, fx=source.intrinsics.fx)
        filled = fill_holes(alone, measured, frame.rgb).depth
        hidden = np.where(measured > 0, np.nan, frame.depth).astype(np.float32)
        figures.append((np.mean(measured > 0), rel(alone, hidden), rel(filled, hidden)))
        print('frame {}: {:.0%} measured, REL in the holes {:.3f}, filled {:.3f}'.format(
            number, *figures[-1]), flush=True)
        if number == DRAWN:
            near, far = depth_range(frame.depth, alone, filled)
            image = np.vstack((
                np.hstack((titled(frame.rgb, 'camera'),
                           titled(colour_depth(measured, near, far),
                                  'depth camera: black is unknown'))),
                np.hstack((titled(colour_depth(alone, near, far), 'the network alone'),
                           titled(colour_depth(filled, near, far), 'holes filled')))))
            small = cv2.resize(image[..., ::-1], None, fx=0.55, fy=0.55,
                               interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(Path(__file__).with_name('depth_holes.jpg')), small,
                        [cv2.IMWRITE_JPEG_QUALITY, 85])
    print('mean of {}: {:.0%} measured, REL in the holes {:.3f}, filled {:.3f}'.format(
        len(figures), *np.mean(figures, 0)))


if __name__ == '__main__':
    main()
