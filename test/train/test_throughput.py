"""The table of train.throughput."""

import re

from train import throughput


def test_throughput_prints_its_table(tiny, tmp_path, capsys):
    config = tmp_path / 'config.yaml'
    config.write_text('encoder: tiny\nbatch: 1\nprecision: bf16\n')
    throughput.main(['--config', str(config), '--rounds', '1'])
    rates = re.findall(r'^(loader|step|plain).* (\d+\.\d) +\d+ ', capsys.readouterr().out, re.M)
    assert [name for name, _ in rates] == ['loader', 'step', 'step', 'plain']
