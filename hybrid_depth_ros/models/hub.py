"""Networks from the hub: found there by huggingface_hub, downloaded once, kept for later."""

import contextlib
import hashlib
import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import cache_folder
from hybrid_depth_ros.models.base import HUB, HUB_FILES

LARGEST = {'.json': 1 << 20, '.safetensors': 4 << 30}  # bytes; Depth Pro has 1.9 GB
PATIENCE = 10  # seconds for the hub's first answer


def hub_folder(name, fresh=False):
    """The folder of ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``; downloaded where it is not here.

    What is here is taken without asking the hub: this package's cache, then huggingface_hub's.
    fresh: asks it for what is new. A download goes on from where it was broken off, and is held
    against the digests that the hub names. Raises ValueError for another name, OSError in one
    sentence where it can't be had.
    """
    repository, revision = repository_and_revision(name)
    if not fresh and (folder := kept_folder(name)):
        return folder
    kept = _place(name)
    if not find_spec('huggingface_hub'):
        raise OSError(f'{name} is not here yet, and huggingface_hub, which downloads it, is not '
                      "installed: pip install 'hybrid_depth_ros[transformers]'")
    commit = revision
    for file in HUB_FILES:  # the largest last: with it the folder is whole
        seen = _described(name, repository, file, commit)
        commit = seen.commit_hash or commit
        _fetch(seen, kept / re.sub(r'[^\w.-]', '_', commit) / file)
    return kept / re.sub(r'[^\w.-]', '_', commit)


def kept_folder(name):
    """The folder of a name on the hub that is here already, or None."""
    return _whole(_place(name)) or _in_huggingface_cache(*repository_and_revision(name))


def repository_and_revision(name):
    """Repository and revision of ``hf:ORG/NAME[@REVISION]``; ValueError for another name."""
    match = re.fullmatch(r'([\w.-]+/[\w.-]+)(?:@([\w.-]+))?', name.removeprefix(HUB), re.ASCII)
    if not match or '..' in name:
        raise ValueError(f'{name} is no name on the hub; it is written {HUB}ORG/NAME')
    return match[1], match[2] or 'main'


def _place(name):
    return cache_folder() / 'hub' / name.removeprefix(HUB).replace('/', '--')


def _whole(kept):
    with contextlib.suppress(OSError):
        whole = [folder for folder in kept.iterdir()
                 if all((folder / file).is_file() for file in HUB_FILES)]
        return max(whole, key=lambda folder: folder.stat().st_mtime, default=None)
    return None


def _in_huggingface_cache(repository, revision):
    if not find_spec('huggingface_hub'):
        return None
    from huggingface_hub import try_to_load_from_cache
    found = [try_to_load_from_cache(repository, file, revision=revision) for file in HUB_FILES]
    if all(isinstance(path, str) for path in found):
        from pathlib import Path
        return Path(found[0]).parent
    return None


def _described(name, repository, file, commit):
    """What the hub says of a file: where it is, its size and digest, the commit."""
    import huggingface_hub
    from huggingface_hub import errors
    mend = ('get it where there is a network by python -m hybrid_depth_ros.weights --download, or '
            'copy its folder here and pass that')
    try:
        # not the constant: the environment may name another hub by now
        url = huggingface_hub.hf_hub_url(repository, file, revision=commit)
        seen = huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
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
    most = next(size for ending, size in LARGEST.items() if file.endswith(ending))
    if seen.size is not None and seen.size > most:
        raise OSError(f'{name}: {file} has {seen.size / 1e9:.1f} GB; no more than '
                      f'{most / 1e9:.1f} GB are taken')
    return seen


def _fetch(seen, target):
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    from hybrid_depth_ros.download import download
    if target.is_file():
        return
    own = urlsplit(seen.location).hostname == urlsplit(hf_hub_url('a/b', 'c')).hostname
    etag = seen.etag or ''
    sha256 = etag if re.fullmatch('[0-9a-f]{64}', etag) else None

    def check(path):
        content = path.read_bytes() if re.fullmatch('[0-9a-f]{40}', etag) else None
        if content is not None and etag != hashlib.sha1(  # as git names a file
                b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest():
            raise ValueError('it is not what the hub holds')
    download(seen.location, target, sha256, check,
             headers=build_hf_headers() if own else {}, largest=max(LARGEST.values()))
