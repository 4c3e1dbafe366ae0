"""A training that is killed, and goes on."""

import re
import signal
import time

import pytest
import tiny_encoder
import torch
from forked_process import HERE, ForkedProcess

from train import nyu

SHORT = ('encoder: tiny\nepochs: 2\nepoch_images: 6\nbatch: 2\nmix: 0.5\ndropout: 0.3\n'
         'drop_path: 0.3\nvalidation: [[0, 1]]\nvalidate_every: 1\nema: 0.9\nema_start: 0.2\n'
         'log_l1: 1.0\nhead_bias: 2.5\nprecision: bf16\nfused: true\n')


def until(true, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_and_resumed_is_bit_identical(tree, tiny, tmp_path):
    config = tmp_path / 'tiny.yaml'
    config.write_text(SHORT)

    log, threads = tmp_path / 'log', torch.get_num_threads()
    torch.set_num_threads(1)

    def start(*more):
        return ForkedProcess(tiny_encoder.__file__, [
            '--config', config, '--data', tree, '--out', tmp_path / 'cut', '--from-scratch',
            '--checkpoint-every', '1', *more], log, HERE)
    last = tmp_path / 'cut' / 'last.pt'

    cut = start()
    until(last.exists, cut)
    with pytest.raises(SystemExit, match=r'another training writes to .*cut'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'cut'),
                  '--from-scratch'])
    cut.kill()
    cut.wait()
    with pytest.raises(SystemExit, match=r'last\.pt is of an earlier training.*--resume'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'cut')])

    before = last.stat().st_mtime_ns
    cut = start('--resume')  # at once: loading processes that live on hold no lock
    until(lambda: last.stat().st_mtime_ns != before, cut)
    cut.send_signal(signal.SIGTERM)
    ended, said = cut.wait(60), log.read_text()
    assert ended == 128 + signal.SIGTERM, said
    assert re.search(r'stopped after step \d of 6; .*--resume', said)
    assert 'Traceback' not in said

    cut = start('--resume')
    try:
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'whole'),
                  '--from-scratch'])
    finally:
        torch.set_num_threads(threads)
    assert cut.wait(120) == 0, log.read_text()
    one, two = (torch.load(tmp_path / out / 'last.pt', weights_only=True)
                for out in ('whole', 'cut'))
    assert two['step'] == 6
    for part in ('network', 'average'):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), name
    assert one['recent'] == two['recent']
    epochs = [re.sub(r'\d+s', '', (tmp_path / out / 'log.txt').read_text())
              for out in ('whole', 'cut')]
    assert epochs[0] == epochs[1]
