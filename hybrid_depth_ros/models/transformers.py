"""Depth networks of the library transformers, which has their architecture and preprocessing.

A folder in its format holds config.json, preprocessor_config.json and model.safetensors. Only
tensors are read; no code comes from anywhere but the installed library.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.errors import list_briefly, reason
from hybrid_depth_ros.files import expand_user, file_digest
from hybrid_depth_ros.models.base import MAX_SIDE, Model, NetworkInput, check_image
from hybrid_depth_ros.weights.hub import snapshot_folder
from hybrid_depth_ros.weights.registry import HUB, HUB_FILES, HUB_NAMES, INDEX_FILE

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'hybrid_depth_ros[transformers]', or transformers, torch and torchvision"
PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl')
MAX_CONFIG_BYTES = 1 << 20  # all known configs and indices have some thousands
MAX_NUMBER = 1 << 20        # in a config: all known ones stay below some thousands
# DPT's first fusion doesn't use these; its checkpoints leave them out
UNUSED_TENSORS = re.compile(r'neck\.fusion_stage\.layers\.0\.residual_layer1\.')
FAMILIES = ('depth_anything', 'dpt', 'glpn', 'zoedepth', 'depth_pro')
RELATIVE_FAMILIES = ('depth_anything', 'dpt')  # unless their config says that they give metres


class TransformersModel(Model):
    """A network of transformers.

    Args:
        weights: A registered name, ``hf:ORG/NAME``, which is downloaded once, or a folder.

    Raises:
        OSError: It is not there.
        ValueError: It will not do.
    """

    # their exports keep the size that was traced; and ZoeDepth chooses one head for a whole batch
    static_shape = True
    input_shape, input_dtype = (-1, 3, -1, -1), np.float32

    def __init__(self, weights: str) -> None:
        for name in ('transformers', 'torch', 'torchvision'):
            if not find_spec(name):
                raise ValueError(f'{weights} needs {name}, which is not installed: {INSTALL}')
        self._entry = HUB_NAMES.get(weights)
        address = self._entry.address if self._entry else weights
        if address.startswith(HUB):
            from hybrid_depth_ros.weights.hub import hub_folder
            path = hub_folder(address)
        else:
            path = snapshot_folder(expand_user(weights))
        super().__init__(weights, path)
        if self._entry and self._entry.note:
            self.notes.append(f'{weights}: {self._entry.note}')
        config = _checked_config(path)
        self.family = config['model_type']
        self.relative = (self.family in RELATIVE_FAMILIES
                         and config.get('depth_estimation_type') != 'metric')
        if self.family == 'zoedepth' and len(config.get('bin_configurations', ())) > 1:
            self.runtimes = ('torch',)  # Python decides which of its heads sees an image
        self.processor = _load_processor(path)
        self.digest  # noqa: B018 - a damaged file is reported now
        self.assumed_focal_length: float | None = None
        self.assumed_focal_length = self._training_focal_length()

    @cached_property
    def digest(self) -> str:
        digests: list[str] = []
        for path in (*(self.path / name for name in HUB_FILES[:2]), *_tensor_files(self.path)):
            digests.append(file_digest(path))
            held = path.resolve().name  # in the hub's cache a file has its digest for a name
            if path.is_symlink() and re.fullmatch('[0-9a-f]{64}', held) and held != digests[-1]:
                raise OSError(f'{path} is not what the hub holds: its sha256 is {digests[-1]}, not '
                              f'{held}; delete {path.resolve()} to download it again')
        return hashlib.sha256(' '.join(digests).encode()).hexdigest()

    def _training_focal_length(self) -> float | None:
        """The focal length of the camera that it learned metres through, in its own pixels."""
        camera = self._entry and self._entry.camera
        if not camera or self.relative:
            return None
        seen = self.preprocess(np.zeros((camera.height, camera.width, 3), np.uint8))
        return camera.fx * seen.scale

    def preprocess(self, image: npt.NDArray[np.uint8], fit: str = 'full') -> NetworkInput:
        check_image(image, fit, self.name)
        pixels = self.processor(images=image, input_data_format='channels_last',
                                return_tensors='pt')['pixel_values'][0].numpy()
        return _TransformersInput(self, image.shape, pixels)

    def module(self) -> torch.nn.Module:
        import torch
        network: Any = _load_network(self.path)
        network.loss_function = None  # tracing looks at it, and the library warns

        class Depth(torch.nn.Module):
            replayable = False  # these need the CPU during the forward pass

            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                outputs = self.network(pixel_values=pixels)
                depth = outputs.predicted_depth.float()
                field = getattr(outputs, 'field_of_view', None)
                if field is None:
                    return depth
                # Depth Pro's estimate of the field of view, degrees, becomes one more row
                row = field.float().reshape(-1, 1, 1).expand(-1, 1, depth.shape[-1])
                return torch.cat((depth, row), 1)
        return Depth().eval()

    def split_field_of_view(self, output: npt.NDArray[np.float32]) -> tuple[
            npt.NDArray[np.float32], float | None]:
        """Split a runtime's output for one image into depth and field of view, degrees or None."""
        if self.family != 'depth_pro' or not self._estimates_field:
            return output, None
        return output[:-1], float(output[-1, 0])

    @cached_property
    def _estimates_field(self) -> bool:
        return bool(json.loads((self.path / HUB_FILES[0]).read_text()).get('use_fov_model'))


class _TransformersInput(NetworkInput):
    """Pixels and depth as the library's own pre- and post-processing make them."""

    def __init__(self, model: TransformersModel, shape: tuple[int, ...],
                 pixels: npt.NDArray[np.float32]) -> None:
        self._model, self.pixels = model, pixels
        self.height, self.width = shape[:2]
        self.assumed_focal_length = model.assumed_focal_length
        pad = 0
        if model.family == 'zoedepth' and getattr(model.processor, 'do_pad', False):
            pad = int(np.sqrt(self.width / 2) * 3)  # which its processor adds on both sides
        self.scale = pixels.shape[-1] / (self.width + 2 * pad)
        self._field: float | None = None

    def correct_focal_length(self, fx: float) -> None:
        super().correct_focal_length(fx)
        if self._model.family == 'depth_pro':  # instead of its own estimate
            self._field = math.degrees(2 * math.atan(self.width / (2 * fx)))

    def restore(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import torch
        depth, field = self._model.split_field_of_view(output)
        field = field if self._field is None else self._field
        outputs = SimpleNamespace(
            predicted_depth=torch.from_numpy(np.ascontiguousarray(depth))[None],
            field_of_view=None if field is None else torch.tensor([field]))
        depth = self._model.processor.post_process_depth_estimation(
            outputs, [(self.height, self.width)])[0]['predicted_depth'].numpy()
        return depth if self.depth_scale == 1 else depth * np.float32(self.depth_scale)


def _checked_config(folder: Path) -> dict[str, Any]:
    """The config of a folder that is safe to load; ValueError where it is not."""
    if not _tensor_files(folder):
        if shards := sorted(file.name for file in folder.glob('model-*.safetensors')):
            raise ValueError(f'{folder} holds its tensors in {len(shards)} files, {shards[0]} and '
                             f'so on, without the index that names them, {INDEX_FILE}; download '
                             'that too, or save them as one where they are whole')
        others = sorted(file.name for file in folder.iterdir())
        pickles = [name for name in others if name.endswith(PICKLES)]
        raise ValueError(f'{folder} has no model.safetensors' + (
            f', only {pickles[0]}, a pickle, which can run code and is not read; its makers may '
            'offer safetensors, or save it anew by save_pretrained' if pickles else
            ', or not all of its files; download it again'))
    config, preprocessing = (_read_json(folder / name) for name in HUB_FILES[:2])
    family = config.get('model_type')
    if family not in FAMILIES:
        raise ValueError(f'{folder} is a {family} network; of transformers only these give depth '
                         f'here: {", ".join(FAMILIES)}')
    if (folder / 'adapter_config.json').exists():
        raise ValueError(f'{folder} holds an adapter, which names another network to load; merge '
                         'it, and save the whole')
    for name, text in _entries(config):
        if name.endswith('attn_implementation') and '/' in str(text):  # code on the hub
            raise ValueError(f'{folder / HUB_FILES[0]}: {name} is {text}, code from elsewhere, '
                             'which is refused; leave it out')
    if config.get('use_pretrained_backbone') or isinstance(config.get('backbone'), str):
        raise ValueError(f'{folder / HUB_FILES[0]} wants a backbone from elsewhere '
                         f'({config.get("backbone")}); only what lies in the folder is loaded')
    tensors = _tensor_shapes(folder)
    for name, number in _numbers(config):
        most = len(tensors) if re.search('layers|depths|blocks', name) else MAX_NUMBER
        if abs(number) > most:
            raise ValueError(f'{folder / HUB_FILES[0]}: {name} is {number}, which fits no network '
                             f'of {len(tensors)} tensors')
    if config.get('depth_estimation_type') == 'metric' and not _is_positive(
            config.get('max_depth')):
        raise ValueError(f'{folder / HUB_FILES[0]}: max_depth is {config.get("max_depth")}; metric '
                         'depth is a share of it: write the metres that the network was trained up '
                         'to, 20 for indoor networks of Depth Anything, 80 for outdoor ones')
    _check_preprocessing(folder, preprocessing)
    return config


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _check_preprocessing(folder: Path, settings: dict[str, Any]) -> None:
    for name, number in _numbers(settings):
        if abs(number) > (MAX_SIDE if re.search('size|width|height|edge|multiple', name)
                          else MAX_NUMBER):
            raise ValueError(f'{folder / HUB_FILES[1]}: {name} is {number}; images of more than '
                             f'{MAX_SIDE} pixels a side are not made')


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f'{path} is not there; a folder of transformers has '
                         + ', '.join(HUB_FILES))
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f'{path} has {path.stat().st_size} bytes, which no config needs')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no JSON ({reason(error)}); download it again') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} is no config: it holds a {type(content).__name__}')
    return content


def _entries(content: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Names and values anywhere in a config."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _entries(value, str(key) if not str(key).isdigit() else name)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _entries(value, name)
    else:
        yield name, content


def _numbers(content: Any) -> list[tuple[str, float]]:
    return [(name, value) for name, value in _entries(content)
            if isinstance(value, (int, float)) and not isinstance(value, bool)]


def _tensor_files(folder: Path) -> list[Path]:
    """The files that hold a network's tensors: one, or all that its index names; else none."""
    if (folder / 'model.safetensors').is_file():
        return [folder / 'model.safetensors']
    index = folder / INDEX_FILE
    if not index.is_file():
        return []
    named = _read_json(index).get('weight_map')
    names = {name for name in named.values() if isinstance(name, str)} if isinstance(
        named, dict) else set()
    if missing := sorted(name for name in names if not re.fullmatch(
            r'[\w.-]+\.safetensors', name) or not (folder / name).is_file()):
        raise ValueError(f'{index} names {list_briefly(missing)}, which {folder} does not hold; '
                         'download it again')
    return [folder / name for name in sorted(names)]


def _tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of each tensor of a folder; safetensors checks them against the files' sizes."""
    import safetensors
    shapes = {}
    for path in _tensor_files(folder):
        try:
            with safetensors.safe_open(path, 'numpy') as file:
                shapes.update({name: file.get_slice(name).get_shape()
                               for name in file.keys()})  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f'{path} is not a whole safetensors file ({reason(error)}); download '
                             'it again') from error
    return shapes


def _load_processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False)
        if not hasattr(processor, 'post_process_depth_estimation'):
            raise ValueError(f'{type(processor).__name__} makes no depth')
        _check_preprocessing(folder, processor.to_dict())  # other files may have been read too
        return processor
    except Exception as error:  # of whichever class the library likes
        raise ValueError(f'{folder / HUB_FILES[1]} will not do ({reason(error)[:300]})') from error


def _load_network(folder: Path) -> torch.nn.Module:
    """The network, float32 and in eval mode; ValueError where tensors and config don't agree."""
    import torch
    import transformers
    held = sum(math.prod(shape) for shape in _tensor_shapes(folder).values())
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it reports at length what is checked here
    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False)
        with torch.device('meta'):  # takes no memory
            empty = transformers.AutoModelForDepthEstimation.from_config(
                config, trust_remote_code=False)
        wanted = sum(tensor.numel() for tensor in empty.parameters())
        if wanted > 1.5 * held + 1e6:
            raise ValueError(f'its config is of {wanted / 1e6:.0f} million numbers, its tensors '
                             f'are {held / 1e6:.0f} million')
        network, said = transformers.AutoModelForDepthEstimation.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False,
            use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of whichever class the library likes
        raise ValueError(f'{folder} cannot be loaded ({reason(error)[:300]})') from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    missing = [name for name in said['missing_keys'] if not UNUSED_TENSORS.match(name)]
    wrong = [key[0] if isinstance(key, tuple) else key for key in said['mismatched_keys']]
    if missing or wrong:
        raise ValueError(f'{folder}: its tensors are not those of its config; missing: '
                         f'{list_briefly(sorted(missing))}; of another shape: '
                         f'{list_briefly(sorted(wrong))}')
    if bad := [name for name, tensor in network.named_parameters()
               if not tensor.isfinite().all()]:
        raise ValueError(f'{folder}: NaN or infinite numbers in {list_briefly(sorted(bad))}')
    return network.eval()
