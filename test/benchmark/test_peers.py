"""Architectures that others use, beside ours."""

import json
import subprocess
from types import SimpleNamespace

import pytest


@pytest.mark.slow
def test_peers_stand_beside_lite_in_one_table(tmp_path, monkeypatch, capsys):
    pytest.importorskip('transformers')
    import small_networks

    from hybrid_depth_ros.benchmark import peers
    monkeypatch.setattr(peers, 'make_random', lambda name, folder: small_networks.make(
        'depth_anything_metric', folder))
    run = subprocess.run

    def one_here(command, **options):
        """One in a process of its own, the other in this one, which has imported torch."""
        *_, path, runtime, precision, seconds = command
        if runtime != 'torch':
            return run(command, **options)
        row = peers.measure_peer(path, runtime, precision, float(seconds))
        return SimpleNamespace(returncode=0, stdout=json.dumps(row))
    monkeypatch.setattr(peers.subprocess, 'run', one_here)
    rows = peers.measure_peers(tmp_path, 0.4, ['zoedepth-nyu'])
    assert [row['runtime'] for row in rows] == ['openvino', 'torch']
    for row in rows:
        assert row['ms'] > 0 and row['lite_ms'] > 0 and row['gflop'] > 0 and row['millions'] > 0
        assert row['times'] == row['cpu_ms'] / row['lite_cpu_ms']
    assert json.loads((tmp_path / 'peers.json').read_text()) == rows
    assert (tmp_path / 'peers.png').stat().st_size > 5000
    assert 'zoedepth-nyu openvino' in capsys.readouterr().out


def test_architectures_are_of_the_published_size():
    """With these numbers of parameters in millions: 24.8 and 97.5 on Depth Anything's page, 245 MB
    of GLPN and 1.38 GB of ZoeDepth (with two heads) on theirs."""
    pytest.importorskip('transformers')
    import torch

    from hybrid_depth_ros.benchmark import peers

    for name, millions in (('depth-anything-v2-metric-indoor-small', 24.8),
                           ('depth-anything-v2-metric-indoor-base', 97.5), ('glpn-nyu', 61.2)):
        with torch.device('meta'):
            network = peers.architecture(name)[0]
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert abs(count / millions - 1) < 0.01, (name, count)
