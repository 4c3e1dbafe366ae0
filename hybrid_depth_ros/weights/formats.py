"""Tensors of a weights file: safetensors, or a pickle of tensors. Nothing in a file is executed."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_depth_ros.errors import list_briefly
from hybrid_depth_ros.files import utf8_path

if TYPE_CHECKING:
    import torch

PICKLES = ('.model', '.pth', '.pt')


def read_tensors(path: Path, suffix: str | None = None) -> tuple[
        dict[str, torch.Tensor], dict[str, str]]:
    """Read a weights file.

    Args:
        path: The file.
        suffix: What its name will end in, where it does not yet.

    Returns:
        Its tensors by name, and its metadata.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not a weights file.
    """
    suffix = suffix or path.suffix
    if suffix not in ('.safetensors', *PICKLES):
        raise ValueError(f'{path}: a weights file ends in .safetensors, {", ".join(PICKLES)}' + (
            f"; of a network in transformers' format pass the folder, {path.parent}"
            if (path.parent / 'config.json').is_file() else ''))
    if not path.is_file():  # a pipe, which would be waited for without end, or a device
        raise ValueError(f'{path} is no ordinary file; pass the path of a weights file')
    with open(path, 'rb') as file:
        start = file.read(512)
    if not start:
        raise ValueError(f'{path} is empty; copy or download it again')
    if start.startswith(b'version https://git-lfs'):
        raise ValueError(f'{path} is a Git LFS pointer, not the weights; run git lfs pull')
    if start.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'<'):
        raise ValueError(f'{path} is a web page, not weights; download the file by hand')
    return _read_pickle(path) if suffix in PICKLES else _read_safetensors(path)


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    import safetensors
    try:
        with utf8_path(path) as name, safetensors.safe_open(name, 'pt') as file:
            return ({name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                    file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f'{path} is not a whole safetensors file ({error}); copy or download '
                         'it again') from error


def _check_archive(path: Path) -> None:
    """Raise ValueError where a zip would unpack to more than the file: torch.save only stores."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # from before the zip form, or damaged: torch.load will say so
    size = sum(entry.file_size for entry in entries)
    if size > path.stat().st_size or any(entry.compress_type for entry in entries):
        raise ValueError(f'{path} is a compressed archive of {size / 1e6:.0f} MB, which '
                         'torch.save never writes; save network.state_dict() anew')


def _read_pickle(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    import torch
    _check_archive(path)
    try:
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # corrupt bytes make the reader raise nearly anything
        # torch's own text advises to run the code: quote no more than what it asked for
        code = re.search(r'GLOBAL ([\w.]+\.\w+)', str(error))
        raise ValueError(f'{path} ' + (
            f'holds more than tensors: it asks to run {code[1]}, which was refused; save '
            'network.state_dict() alone' if code else
            'is cut short, corrupt or not written by torch.save; copy or download it again'
        )) from error
    if isinstance(tensors, dict) and {'average', 'settings'} <= tensors.keys():
        return _averaged_weights(path, tensors)
    held = tensors if isinstance(tensors, dict) else {type(tensors): None}
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in held.items()):
        raise ValueError(f'{path} is not a state dict, names to tensors; it holds '
                         f'{list_briefly(held)}')
    return tensors, {}


def _averaged_weights(path: Path, checkpoint: dict[str, Any]) -> tuple[
        dict[str, torch.Tensor], dict[str, str]]:
    """The averaged weights of a checkpoint of train.nyu (``last.pt``), which it would ship."""
    try:
        settings = checkpoint['settings']
        return dict(checkpoint['average']), {'encoder': str(settings['encoder']),
                                             'lateral': str(settings['lateral']).lower()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is not a whole checkpoint of train.nyu; pass '
                         'best.safetensors beside it') from error
