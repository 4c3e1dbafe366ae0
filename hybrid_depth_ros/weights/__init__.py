"""Weights files and the named registry: what :func:`load_network` accepts."""

import copy
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hybrid_depth_ros.errors import list_briefly, reason
from hybrid_depth_ros.files import atomic_write, cache_folder, expand_user, readable_name
from hybrid_depth_ros.models.registry import HUB_NAMES

DATA = Path(__file__).parent.parent / 'data'
PICKLES = ('.model', '.pth', '.pt')
MOST_NUMBERS = 2**28  # in the tensors of a file: four times those of the largest network

@dataclass(frozen=True)
class RegisteredWeights:
    """A file in the package, or one to download from `address`; sha256 where it is known."""

    file: str
    address: str | None = None
    sha256: str | None = None

    @property
    def path(self):
        """Where the file lies, or will lie once downloaded."""
        return (cache_folder() if self.address else DATA) / self.file


REGISTRY = {
    'lite-nyu': RegisteredWeights('lite-nyu.safetensors'),
    # From the authors' network.py in github.com/karoly-hars/DE_resnet_unet_hyb; dl=1 because
    # Dropbox otherwise answers with a web page.
    'paper-nyu': RegisteredWeights(
        'hyb_net_weights.model',
        'https://www.dropbox.com/s/amad4ko9opi4kts/hyb_net_weights.model?dl=1'),
}
HELD_OUT = [[129, 166], [1340, 1383]]  # frames of NYU Depth v2 that lite-nyu never saw


def save_network(network, path):
    """Write weights as float16 safetensors, whole or not at all, with what rebuilds the network.

    A fused network is written in its unfused form; the network itself stays as it is.
    Raises OSError where it can't be written; nothing half-written is left.
    """
    import safetensors.torch
    if any('.unpool_fused.' in name for name in network.state_dict()):
        network = copy.deepcopy(network).unfuse()
    tensors = {name: _halved(tensor).contiguous()
               for name, tensor in network.state_dict().items()}
    try:
        with atomic_write(Path(path)) as partial:
            safetensors.torch.save_file(tensors, partial, {
                'encoder': network.encoder_name, 'lateral': str(network.lateral).lower()})
    except (OSError, safetensors.SafetensorError) as error:
        # safetensors' own: "Error while serializing: I/O error: … (os error 28) at path …"
        said = re.search(r'I/O error: (.*?) \(os error', str(error))
        raise OSError(f'{path} could not be written ({said[1] if said else reason(error)}); make '
                      'room there or choose another path') from error


def _halved(tensor):
    half = tensor.half() if tensor.is_floating_point() else tensor
    # A variance can be more than float16 holds, 65504.
    return half if half.isfinite().all() else tensor


def weights_path(name_or_path):
    """The file of a registered name or path; downloaded where it is registered with an address.

    Raises OSError where it is not there or cannot be downloaded.
    """
    entry = REGISTRY.get(name_or_path)
    if not str(name_or_path):
        raise FileNotFoundError('weights have no name: pass a registered one '
                                f'({", ".join(REGISTRY)}) or the path of a file')
    path = entry.path if entry else expand_user(name_or_path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; pass the weights file inside it')
    if not path.exists():
        if entry and entry.address:
            _download(entry)
        elif entry:
            raise FileNotFoundError(f'{path} is not in this install of the package: install it '
                                    'again, or pass the path of a weights file')
        else:
            import difflib
            near = difflib.get_close_matches(str(name_or_path), [*REGISTRY, *HUB_NAMES], n=1)
            raise FileNotFoundError(
                f'{path}: no such file, nor a registered name ({", ".join(REGISTRY)}); '
                + (f'did you mean {near[0]}?' if near else
                   'pass one of them, the path of a file, or hf:ORG/NAME; python -m '
                   'hybrid_depth_ros.weights lists the names of others'))
    return path


def _download(entry):
    from hybrid_depth_ros.download import download  # urllib takes a while
    download(entry.address, entry.path, entry.sha256,
             check=lambda path: _load_file(path, entry.path.suffix))


def load_network(name_or_path):
    """The network of a registered name or of a weights file: float32, on the CPU, eval mode.

    Files: ``.safetensors`` as :func:`save_network` writes them; ``.model``, ``.pth`` or
    ``.pt`` with a plain state dict, of this package's names or the paper authors'. Nothing in
    a file is ever executed. Registered names with an address are downloaded on first use.

    Raises OSError where the file is not there or cannot be read or downloaded, ValueError
    where its content is not this network's weights.
    """
    path, entry = weights_path(name_or_path), REGISTRY.get(name_or_path)
    try:
        return _load_file(path)
    except ValueError as error:
        if entry and entry.address:
            raise ValueError(f'{error}; delete the file to download it again') from error
        raise


def _load_file(path, suffix=None):
    suffix = suffix or path.suffix
    if suffix not in ('.safetensors', *PICKLES):
        raise ValueError(f'{path}: a weights file ends in .safetensors, {", ".join(PICKLES)}')
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
    tensors, metadata = (_read_pickle if suffix in PICKLES else _read_safetensors)(path)
    try:
        return _build(tensors, metadata)
    except ValueError as error:
        raise ValueError(f'{path}: {error}; pass weights that train.nyu wrote, or a registered '
                         'name') from error


def _read_safetensors(path):
    import safetensors
    try:
        with readable_name(path) as name, safetensors.safe_open(name, 'pt') as file:
            return ({name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                    file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f'{path} is not a whole safetensors file ({error}); copy or download '
                         'it again') from error


def _check_zip(path):
    """Raise ValueError where a zip would unpack to more than the file: torch.save only stores."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # from before the zip form, or damaged: torch sees
    size = sum(entry.file_size for entry in entries)
    if size > path.stat().st_size or any(entry.compress_type for entry in entries):
        raise ValueError(f'{path} is a compressed archive of {size / 1e6:.0f} MB, which '
                         'torch.save never writes; save network.state_dict() anew')


def _read_pickle(path):
    import torch
    _check_zip(path)
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
    held = tensors if isinstance(tensors, dict) else {type(tensors): None}
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in held.items()):
        raise ValueError(f'{path} is not a state dict, names to tensors; it holds '
                         f'{list_briefly(held)}')
    return tensors, {}


def _build(tensors, metadata):
    """Network from tensors; ValueError names what is missing, left over or not finite."""
    import torch

    from hybrid_depth_ros.network import HybridDepthNet, is_published
    if odd := [name for name, tensor in tensors.items() if tensor.layout != torch.strided
               or tensor.device.type != 'cpu' or tensor.is_quantized or tensor.is_complex()]:
        raise ValueError(f'not plain tensors of real numbers: {list_briefly(odd)}')
    # views of a few bytes can claim to be any number of them
    if (count := sum(tensor.numel() for tensor in tensors.values())) > MOST_NUMBERS:
        raise ValueError(f'{count} numbers, more than any network of this package has')
    # copies, as tensors may share memory in the file
    tensors = {name: tensor.to(torch.int64 if name.endswith('num_batches_tracked')
                               else torch.float32, copy=True) for name, tensor in tensors.items()}
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f'NaN or infinite numbers in {list_briefly(bad)}')
    lateral = metadata.get('lateral') or str(
        any(name.startswith(('laterals.', 'con_conv')) for name in tensors)).lower()
    if lateral not in ('true', 'false'):
        raise ValueError(f"metadata 'lateral' is {lateral!r}; it must be true or false")
    encoder = metadata.get('encoder') or (
        'resnet50' if is_published(tensors) else _guess_encoder(tensors))
    with torch.device('meta'):  # no time lost on values that are replaced at once
        network = HybridDepthNet(
            encoder, lateral == 'true',
            uncertainty=any(name.startswith('uncertainty.') for name in tensors))
        if any('.unpool_fused.' in name for name in tensors):
            network.fuse()
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        wrong = re.findall(r'size mismatch for (\S+):', str(error)) or [str(error)]
        raise ValueError(f'not the shapes of a {encoder} network: {list_briefly(wrong)}') from error
    if missing or unexpected:
        raise ValueError(f'not the tensors of a {encoder} network; missing: '
                         f'{list_briefly(missing)}; left over: {list_briefly(unexpected)}')
    return network.unfuse().eval()


def _guess_encoder(tensors):
    """The encoder that shares most tensors, by name and shape."""
    import torch

    from hybrid_depth_ros.network import ENCODERS, HybridDepthNet
    given = {(name, tensor.shape) for name, tensor in tensors.items()}
    with torch.device('meta'):
        states = {encoder: HybridDepthNet(encoder).state_dict() for encoder in ENCODERS}
    shared = {encoder: len(given & {(name, tensor.shape) for name, tensor in state.items()})
              for encoder, state in states.items()}
    best = max(shared, key=shared.__getitem__)
    if not shared[best]:
        raise ValueError(f'no tensor is of a network known here; it holds {list_briefly(tensors)}')
    return best
