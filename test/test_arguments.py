"""Command lines: numbers that are numbers, names that make hands on."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from awkward_names import VALUES

from hybrid_depth_ros import evaluate_bag
from hybrid_depth_ros.arguments import number


@pytest.mark.parametrize('text', ['nan', 'inf', '-inf', '-1', '', 'x', '1e999', '²'])
@pytest.mark.parametrize('kind', [int, float])
def test_numbers_of_a_command_line_are_numbers(text, kind):
    """--slop nan."""
    with pytest.raises(Exception, match=r'is not a (whole )?number of at least 0'):
        number(0, kind=kind)(text)


def test_slop_is_a_number(capsys):
    for text in ('nan', '-1', 'inf'):
        with pytest.raises(SystemExit):
            evaluate_bag.main(['x', '--slop', text])
        assert f"--slop: '{text}' is not a number of at least 0" in capsys.readouterr().err
    for option in ('camera-height', 'camera-pitch', 'camera-roll', 'anchor-age',
                   'anchor-time-constant'):
        with pytest.raises(SystemExit):
            evaluate_bag.main(['x', f'--{option}', 'nan'])
        assert f"--{option}: 'nan' is not a number" in capsys.readouterr().err


def test_make_hands_names_on_as_they_are(tmp_path):
    """Make and the shell read what a name holds."""
    root = Path(__file__).resolve().parent.parent
    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin' / 'python'
    python.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    python.chmod(0o755)
    for name in ('demo', 'torch', 'test', 'models'):
        (tmp_path / f'{name}.installed').touch()
    names = iter([name for name in VALUES if name == name.lstrip()])  # make strips it
    for values in itertools.zip_longest(*[names] * 6, fillvalue='say `date` $HOME $(x)'):
        given = dict(zip(('SOURCE', 'WEIGHTS', 'FOV', 'ANCHORS', 'DURATION', 'OUT'), values))
        done = subprocess.run(
            ['make', '-s', 'demo', f'VENV={tmp_path}',
             *(f'{name}={value}' for name, value in given.items())], cwd=root,
            capture_output=True, text=True, timeout=60, env={**os.environ, 'ROS_DISTRO': ''})
        options = ('--source', '--weights', '--horizontal-fov', '--anchors', '--seconds', '--out')
        assert done.stdout.split('\0')[2:-1] == [
            f'{option}={value}' for option, value in zip(options, values)], done.stderr
