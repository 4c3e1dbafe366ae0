"""``make docs``: the pages and the API reference, built as a user builds them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None
                        for name in ('sphinx', 'myst_parser', 'furo')), reason='needs sphinx')
def test_sphinx_builds_the_reference_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-d',
         tmp_path / 'doctrees', ROOT / 'docs', tmp_path / 'html'], capture_output=True, text=True,
        timeout=900, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert not done.returncode, done.stderr
    page = (tmp_path / 'html' / 'api' / 'predictor.html').read_text()
    assert 'id="hybrid_depth_ros.predictor.DepthPredictor.__call__"' in page
    assert '<strong>weights</strong>' in page  # napoleon's list of arguments
