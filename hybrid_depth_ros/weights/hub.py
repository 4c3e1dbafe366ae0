"""Networks on the Hugging Face hub: downloaded once by huggingface_hub, then cached."""

from __future__ import annotations

import contextlib
import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.weights.registry import HUB, HUB_FILES, INDEX_FILE

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

MAX_BYTES = {'.json': 1 << 20, '.safetensors': 4 << 30}  # Depth Pro has 1.9 GB
TIMEOUT = 10  # seconds for the hub's first answer


def hub_folder(name: str, fresh: bool = False) -> Path:
    """Return the folder of a network on the hub; download it where it is not cached.

    What is cached is taken without asking the hub: from this package's cache, then from
    huggingface_hub's. A download resumes where it broke off, and is checked against the hub's
    digests.

    Args:
        name: ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``.
        fresh: Whether to ask the hub for a newer version.

    Raises:
        ValueError: It is no such name.
        OSError: It can't be downloaded.
    """
    repository, revision = repository_and_revision(name)
    if not fresh and (folder := cached_hub_folder(name)):
        return folder
    kept = _cache_folder_of(name)
    if not find_spec('huggingface_hub'):
        raise OSError(f'{name} is not here yet, and huggingface_hub, which downloads it, is not '
                      "installed: pip install 'hybrid_depth_ros[transformers]'")
    commit = revision
    for file in HUB_FILES:  # the largest last: with it the folder is complete
        metadata = _file_metadata(name, repository, file, commit)
        commit = metadata.commit_hash or commit
        _download_file(metadata, kept / re.sub(r'[^\w.-]', '_', commit) / file)
    return kept / re.sub(r'[^\w.-]', '_', commit)


def cached_hub_folder(name: str) -> Path | None:
    """Return the folder of a name on the hub that is cached already, or None."""
    return _newest_complete_folder(_cache_folder_of(name)) or _in_huggingface_cache(
        *repository_and_revision(name))


def snapshot_folder(folder: Path) -> Path:
    """Return the newest snapshot of a folder ``models--ORG--NAME`` of huggingface_hub's cache.

    Another folder is returned as it is.
    """
    return _newest_complete_folder(folder / 'snapshots') or folder


def repository_and_revision(name: str) -> tuple[str, str]:
    """Repository and revision of a name."""
    match = re.fullmatch(r'([\w.-]+/[\w.-]+)(?:@([\w.-]+))?', name.removeprefix(HUB), re.ASCII)
    if not match or '..' in name:
        raise ValueError(f'{name} is no name on the hub; it is written {HUB}ORG/NAME')
    return match[1], match[2] or 'main'


def _cache_folder_of(name: str) -> Path:
    return cache_folder() / 'hub' / name.removeprefix(HUB).replace('/', '--')


def _newest_complete_folder(revisions: Path) -> Path | None:
    with contextlib.suppress(OSError):
        complete = [folder for folder in revisions.iterdir()
                    if all((folder / file).is_file() for file in HUB_FILES[:2])
                    and any((folder / file).is_file() for file in (HUB_FILES[2], INDEX_FILE))]
        return max(complete, key=lambda folder: folder.stat().st_mtime, default=None)
    return None


def _in_huggingface_cache(repository: str, revision: str) -> Path | None:
    if not find_spec('huggingface_hub'):
        return None
    from huggingface_hub import try_to_load_from_cache
    found = [try_to_load_from_cache(repository, file, revision=revision) for file in HUB_FILES]
    if all(isinstance(path, str) for path in found):
        return Path(str(found[0])).parent
    return None


def _file_metadata(name: str, repository: str, file: str, commit: str) -> HfFileMetadata:
    """Where the hub has a file, its size and digest, and the commit."""
    import huggingface_hub
    from huggingface_hub import errors
    mend = ('get it where there is a network by python -m hybrid_depth_ros.weights --download, or '
            'copy its folder here and pass that')
    try:
        # not the constant: the environment may name another hub by now
        url = huggingface_hub.hf_hub_url(repository, file, revision=commit)
        metadata = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
    except errors.GatedRepoError as error:
        raise OSError(f'{name} is given to those alone who agree to its terms: do so on its page '
                      'on the hub, then hf auth login') from error
    except errors.RepositoryNotFoundError as error:
        raise OSError(f'{name} is not on the hub, or not for everybody: check the name, or hf auth '
                      'login') from error
    except errors.RevisionNotFoundError as error:
        raise OSError(f'{name}: the hub has no such revision') from error
    except errors.EntryNotFoundError as error:
        raise OSError(f'{name} has no {file} on the hub'
                      + ('; pickles, which can run code, are not taken'
                         if file.endswith('.safetensors') else '')) from error
    except Exception as error:  # of whichever class the library, and what it uses, likes
        raise OSError(f'{name} is not here yet, and the hub does not answer '
                      f'({reason(error)[:200]}); {mend}') from error
    most = next(size for ending, size in MAX_BYTES.items() if file.endswith(ending))
    if metadata.size is not None and metadata.size > most:
        raise OSError(f'{name}: {file} has {metadata.size / 1e9:.1f} GB; no more than '
                      f'{most / 1e9:.1f} GB are taken')
    return metadata


def _download_file(metadata: HfFileMetadata, target: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    from hybrid_depth_ros.download import download
    if target.is_file():
        return
    on_hub = urlsplit(metadata.location).hostname == urlsplit(hf_hub_url('a/b', 'c')).hostname
    etag = metadata.etag or ''
    sha256 = etag if re.fullmatch('[0-9a-f]{64}', etag) else None

    def check(path: Path) -> None:
        content = path.read_bytes() if re.fullmatch('[0-9a-f]{40}', etag) else None
        if content is not None and etag != hashlib.sha1(  # as git names a file
                b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest():
            raise ValueError('it is not what the hub holds')
    download(metadata.location, target, sha256, check,
             headers=build_hf_headers() if on_hub else {}, max_bytes=max(MAX_BYTES.values()))
