"""A registered name or a weights file → its path, its network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.weights.formats import PICKLES, read_tensors
from hybrid_depth_ros.weights.registry import HUB_NAMES, REGISTRY, RegisteredWeights
from hybrid_depth_ros.weights.state_dict import build_network

if TYPE_CHECKING:
    from hybrid_depth_ros.network import HybridDepthNet


def weights_path(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a registered name or path; download it where it has an address.

    Raises:
        OSError: It is not there or cannot be downloaded.
    """
    name = os.fspath(name_or_path)
    entry = REGISTRY.get(name)
    if not name:
        raise FileNotFoundError('weights have no name: pass a registered one '
                                f'({", ".join(REGISTRY)}) or the path of a file')
    path = entry.path if entry else expand_user(name)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; {_advice_for_folder(path)}')
    if not path.exists():
        if entry and entry.address:
            _download(entry)
        elif entry:
            raise FileNotFoundError(f'{path} is not in this install of the package: install it '
                                    'again, or pass the path of a weights file')
        else:
            import difflib
            near = difflib.get_close_matches(name, [*REGISTRY, *HUB_NAMES], n=1)
            raise FileNotFoundError(
                f'{path}: no such file, nor a registered name ({", ".join(REGISTRY)}); '
                + (f'did you mean {near[0]}?' if near else
                   'pass one of them, the path of a file, or hf:ORG/NAME; python -m '
                   'hybrid_depth_ros.weights lists the names of others'))
    return path


def _advice_for_folder(folder: Path) -> str:
    """What to pass instead of a folder that holds no network in transformers' format."""
    for name in ('best.safetensors', 'last.pt'):  # of a training
        if (folder / name).is_file():
            return f'pass {folder / name}'
    cached = sorted(folder.glob('models--*')) + sorted(folder.glob('hub/models--*'))
    if cached:
        return f"it holds networks of the hub's cache: pass one of its folders, as {cached[0]}"
    if (folder / 'snapshots').is_dir():
        name = folder.name.removeprefix('models--').replace('--', '/')
        return f'no snapshot in it is whole: download it again, by weights hf:{name}'
    files = sorted(file for file in folder.iterdir()
                   if file.suffix in ('.safetensors', '.onnx', *PICKLES))
    below = sorted(folder.glob('*/config.json')) + sorted(folder.glob('*/best.safetensors'))
    if len(files) == 1:
        return f'pass {files[0]}'
    if files:
        return f'pass one of its {len(files)} weights files, as {files[-1]}'
    if below:
        return f'pass one of the folders in it, as {below[-1].parent}'
    return ('no weights file (.safetensors, .onnx, ' + ', '.join(PICKLES) + ') and no '
            'config.json lies in it')


def _download(entry: RegisteredWeights) -> None:
    from hybrid_depth_ros.download import download  # urllib takes a while
    assert entry.address
    download(entry.address, entry.path, entry.sha256,
             check=lambda path: _load_file(path, entry.path.suffix))


def load_network(name_or_path: str | os.PathLike[str]) -> HybridDepthNet:
    """Load the network of a registered name or of a weights file.

    Nothing in a file is ever executed. Registered names with an address are downloaded on first
    use.

    Args:
        name_or_path: A registered name, or a file: ``.safetensors`` as :func:`save_network` writes
            it; ``.model``, ``.pth`` or ``.pt`` with a plain state dict, of this package's names or
            the paper authors', or a checkpoint of train.nyu (its averaged weights).

    Returns:
        The network: float32, on the CPU, in eval mode.

    Raises:
        OSError: The file is not there, or cannot be read or downloaded.
        ValueError: Its content is not this network's weights.
    """
    path, entry = weights_path(name_or_path), REGISTRY.get(os.fspath(name_or_path))
    try:
        return _load_file(path)
    except ValueError as error:
        if entry and entry.address:
            raise ValueError(f'{error}; delete the file to download it again') from error
        raise


def _load_file(path: Path, suffix: str | None = None) -> HybridDepthNet:
    tensors, metadata = read_tensors(path, suffix)
    try:
        return build_network(tensors, metadata)
    except ValueError as error:
        advice = (_advice_for_others(path, tensors)
                  or 'pass weights that train.nyu wrote, or a registered name')
        raise ValueError(f'{path}: {error}; {advice}') from error


def _advice_for_others(path: Path, tensors: Mapping[str, object]) -> str:
    """What to pass instead of a file with another network's tensors; empty: not known."""
    if any(name.startswith('depth_head.') for name in tensors):
        return ("it is a checkpoint of Depth Anything's own code: take the same network in "
                "transformers' format, for instance depth-anything-v2-small (python -m "
                'hybrid_depth_ros.weights lists them)')
    if (path.parent / 'config.json').is_file():
        return f"it is a network in transformers' format: pass its folder, {path.parent}"
    if any(name.startswith(('backbone.', 'glpn.', 'dpt.', 'neck.')) for name in tensors):
        return ("it is a network in transformers' format: put config.json and "
                'preprocessor_config.json beside it as model.safetensors, and pass the folder')
    return ''
