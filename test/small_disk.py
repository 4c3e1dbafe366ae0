"""A file system that is soon full."""

import os
import subprocess

import pytest


class SmallDisk:
    """A file system of `megabytes` of its own."""

    def __init__(self, path, megabytes):
        self.path, self.ballast = path, path / 'ballast'
        path.mkdir()
        mounted = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', path],
            capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f'may not mount: {mounted.stderr.strip()}')

    def fill(self, leave):
        """Leave so many bytes."""
        self.ballast.unlink(missing_ok=True)
        free = os.statvfs(self.path)
        self.ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - leave))

    def files(self):
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob('*')
                      if path != self.ballast)

    def grow(self, megabytes):
        """Make it so large."""
        subprocess.run(['mount', '-o', f'remount,size={megabytes}m', self.path], check=True)
