"""What a network of any family is to the predictor and to the runtimes."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hybrid_depth_ros.files import file_digest

HUB = 'hf:'  # before a name on the hub
HUB_FILES = ('config.json', 'preprocessor_config.json', 'model.safetensors')
LONGEST_SIDE = 8        # times the shorter side; what is longer would grow out of all bounds
LARGEST_SIDE = 2048     # pixels of a picture that another's network is shown


class TrainingCamera(NamedTuple):
    """A camera that a network learnt metres through: focal length and size, pixels."""

    fx: float
    width: int
    height: int


NYU = TrainingCamera(518.858, 640, 480)         # Silberman et al. 2012, the colour camera
HYPERSIM = TrainingCamera(886.81, 1024, 768)    # Roberts et al. 2021, a field of view of 60°
KITTI = TrainingCamera(721.5377, 1242, 375)     # Geiger et al. 2012, camera 2 of most drives
VKITTI2 = TrainingCamera(725.0087, 1242, 375)   # Cabon et al. 2020


class NetworkInput:
    """What a network is shown of a picture, and how depth comes back.

    ``pixels``: an array as the model's module takes it, without the axis of the batch. ``scale``:
    pixels of the network for one of the picture, along a row. ``focal``: the focal length that
    the network takes every camera to have, in its own pixels; None: it takes no correction.
    ``guide``: the picture itself, where depth's outlines are to follow it.
    """

    pixels: np.ndarray
    scale: float = 1.0
    focal: float | None = None
    correction: float = 1.0
    guide: np.ndarray | None = None

    def see_through(self, fx):
        """Correct depth for a camera's focal length, in pixels of the picture."""
        if self.focal:
            self.correction = fx * self.scale / self.focal

    def restore(self, output):
        """The runtime's output for this picture → float32 H×W of the picture's size."""
        raise NotImplementedError

    def restore_sigma(self, output):
        """The standard deviation of :meth:`restore`'s depth, float32 H×W, metres; None: unknown."""
        return None


class Model:
    """A network's weights, and what its family asks of a picture.

    name: as the user gave it. ``path``: of the file or folder. ``relative``: it gives inverse
    depth without scale and shift, no metres. ``runtimes``: that can run it. ``one_by_one``: its
    exports are of one size each and see one picture at a time. ``graph``: the ONNX file that it is
    itself, or None. ``notes``: sentences for the log.
    """

    relative = False
    one_by_one = False
    graph = None
    answer = 0  # which of a graph's outputs is depth
    runtimes: tuple = ('torch', 'openvino', 'onnxruntime', 'tensorrt')
    layout: tuple = (-1, -1, -1, 3)  # shape and dtype of a batch of pixels
    kind: Any = np.uint8

    def __init__(self, name, path):
        self.name, self.path, self.notes = name, path, []

    def view(self, image, fit='full'):
        """The :class:`NetworkInput` of an image, uint8 H×W×3. ValueError for a fit it has not."""
        raise NotImplementedError

    def module(self):
        """A torch module, float32 and in eval mode: a batch of pixels → float32 N×h×w."""
        raise NotImplementedError

    @cached_property
    def digest(self):
        """sha256 of all that decides what the network computes."""
        return file_digest(self.path)

    @property
    def int8(self):
        """Where its quantised graph lies, or None."""
        return None

    def trial(self):
        """The pixels of one 640×480 picture, as a batch."""
        return self.view(np.zeros((480, 640, 3), np.uint8)).pixels[None]

    def example(self):
        """Two pictures whose sizes differ from each other in all ways, as a batch, for an export:
        none may be taken for another, or for a constant."""
        return np.concatenate([self.trial()] * 2)


def check_view(image, fit, network):
    """Raise ValueError for a fit that another's network has not, and for a picture that is so long
    and thin that it can't take it."""
    if fit != 'full':
        raise ValueError(f"fit {fit} is for this package's own networks: set fit to full for "
                         f'{network}')
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE * min(height, width):
        raise ValueError(f'the picture is {width}×{height}; {network} takes none that is more than '
                         f'{LONGEST_SIDE} times as long as it is wide')
