"""Weights files and the named registry: what :func:`load_network` accepts."""

import copy
import difflib
import fcntl
import os
import pickle
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
import tqdm

from hybrid_depth_ros.network import ENCODERS, HybridDepthNet, is_published

PACKAGE_DATA = Path(__file__).parent / 'data'
TORCH_SUFFIXES = ('.pth', '.pt', '.model')
TIMEOUT = 30.0  # seconds without a byte before a download counts as stalled
ATTEMPTS = 4


class Registered(NamedTuple):
    """Weights with a name: a file of this package, or one at an address."""

    file: str
    url: str | None = None


REGISTRY = {
    'lite-nyu': Registered('lite-nyu.safetensors'),
    # The paper's authors: https://github.com/karoly-hars/DE_resnet_unet_hyb, network.py;
    # dl=1 asks Dropbox for the file instead of its page.
    'paper-nyu': Registered(
        'hyb_net_weights.model',
        'https://www.dropbox.com/s/amad4ko9opi4kts/hyb_net_weights.model?dl=1'),
}


def load_network(name_or_path):
    """The network of a registered name or a file, in evaluation mode, float32, on the CPU.

    Files: ``.safetensors`` as :func:`save_network` writes them; ``.pth``, ``.pt`` and
    ``.model`` state dicts, ours or the one that the paper's authors published, read by
    ``torch.load(weights_only=True)``, so that no code in them can run.

    Raises OSError where the file is not there, can't be read or downloaded, and ValueError
    where it is not the weights of a network of this package; both name the file and the mend.
    """
    if name_or_path in REGISTRY:
        entry = REGISTRY[name_or_path]
        path = download(entry) if entry.url else PACKAGE_DATA / entry.file
    else:
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), REGISTRY, n=1)
        hint = f'did you mean {near[0]}? ' if near else ''
        raise FileNotFoundError(f'{path} is not a weights file: {hint}Registered names are '
                                f'{", ".join(REGISTRY)}; anything else is the path of a file')
    if path.suffix == '.safetensors':
        tensors, told = _read_safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        tensors, told = _read_torch(path), {}
    else:
        raise ValueError(f'{path}: weights end in .safetensors, {", ".join(TORCH_SUFFIXES)}; '
                         'rename the file if it is one of these')
    encoder, lateral = _kind(path, tensors, told)
    network = HybridDepthNet(encoder, lateral)
    _fill(network, tensors, path)
    return network.eval()


def _read_safetensors(path):
    try:
        with safetensors.safe_open(path, 'pt') as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f'{path} is damaged, or not a safetensors file ({error}): '
                         'copy or download it again') from error


def _read_torch(path):
    try:
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f'{path} is not a plain state dict, or would run code when loaded, '
                         'which is refused: save network.state_dict() instead') from error
    except (EOFError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f'{path} is damaged ({error}): copy or download it again') from error
    if not isinstance(tensors, dict) or not tensors or not all(
            isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ValueError(f'{path} holds no state dict: save network.state_dict() with torch.save')
    return tensors


def _kind(path, tensors, told):
    """(encoder name, lateral) of the tensors, from what the file says or from their names."""
    if is_published(tensors):
        return 'resnet50', True
    lateral = any(name.startswith('laterals.') for name in tensors)
    if told.get('encoder'):
        if told['encoder'] not in ENCODERS:
            raise ValueError(f'{path} is for the encoder {told["encoder"]!r}, which this version '
                             f'does not know; it knows {", ".join(ENCODERS)}')
        return told['encoder'], lateral
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for encoder in ENCODERS:
        with torch.device('meta'):
            own = HybridDepthNet(encoder, lateral).encoder.state_dict()
        if all(shapes.get(f'encoder.{name}') == tensor.shape for name, tensor in own.items()):
            return encoder, lateral
    raise ValueError(f'{path} holds weights of another network: its tensors (such as '
                     f'{next(iter(tensors))}) fit none of {", ".join(ENCODERS)}')


def _fill(network, tensors, path):
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f'{path}: tensor {name} has values that are not finite; the training '
                             'diverged or the file is damaged')
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        problems = str(error).split('\n\t')[1:]
        raise ValueError(f'{path} does not fit the network: ' + '; '.join(
            problem[:200] for problem in problems[:3])) from error


def save_network(network, path):
    """Write weights as float16 safetensors, atomically, with what rebuilds the network."""
    if any('unpool_fused' in name for name in network.state_dict()):
        network = copy.deepcopy(network).unfuse()
    tensors = {name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
               for name, tensor in network.state_dict().items()}
    path = Path(path)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        partial.write_bytes(safetensors.torch.save(tensors, {
            'encoder': network.encoder_name, 'lateral': str(network.lateral).lower()}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def cache_folder():
    """$HYBRID_DEPTH_CACHE, else hybrid_depth_ros in the user's cache (XDG)."""
    chosen = os.environ.get('HYBRID_DEPTH_CACHE')
    if chosen:
        return Path(chosen).expanduser()
    user = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(user).expanduser() / 'hybrid_depth_ros'


def download(entry):
    """The path of a registered file in the cache, downloaded first if it isn't there.

    Shows progress, goes on where an earlier download stopped, and puts the file in its place
    only when it is whole. One process downloads at a time, others wait for it.
    Raises OSError naming address, path and mend.
    """
    path = cache_folder() / entry.file
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix('.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _download(entry.url, path)
        return path
    except OSError as error:
        raise OSError(f'{entry.url} could not be downloaded to {path} ({error}). Download it '
                      'with a browser and put it there, or give its path as weights') from error


def _download(url, path):
    part = path.with_name(path.name + '.part')
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            if _fetch(url, part):
                os.replace(part, path)
                return
            reason = OSError('the connection broke off')
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what we have is not a beginning of what is there now
                part.unlink(missing_ok=True)
            elif error.code < 500:
                raise
            reason = error
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = error
    raise reason


def _fetch(url, part):
    """Append what is missing of the file; True when it is whole."""
    have = part.stat().st_size if part.exists() else 0
    version = part.with_name(part.name + '.version')
    request = urllib.request.Request(url, headers={'User-Agent': 'hybrid_depth_ros'})
    if have and version.exists():
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', version.read_text())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
        if reply.headers.get_content_type() == 'text/html':
            raise OSError('a web page came instead of the file')
        if reply.status != 206:  # the whole file comes, from its start
            have = 0
        tag = reply.headers.get('ETag') or reply.headers.get('Last-Modified')
        if tag and not tag.startswith('W/'):
            version.write_text(tag)
        else:
            version.unlink(missing_ok=True)
        length = reply.headers.get('Content-Length')
        total = have + int(length) if length else None
        with part.open('ab' if have else 'wb') as file, tqdm.tqdm(
                desc=part.name.removesuffix('.part'), total=total, initial=have, unit='B',
                unit_scale=True) as bar:
            while chunk := reply.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
    whole = total is None or part.stat().st_size == total
    if whole:
        version.unlink(missing_ok=True)
    return whole
