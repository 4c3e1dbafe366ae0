"""Weights files: written, read, refused; names and paths."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from filled_networks import LITE, assert_same

from hybrid_depth_ros import files, weights
from hybrid_depth_ros.network import ENCODERS, HybridDepthNet
from hybrid_depth_ros.weights import (
    REGISTRY,
    load_network,
    registry,
    save_network,
    weights_path,
)


def test_save_and_load_again(lite, lite_file):
    held = safetensors.torch.load_file(lite_file)
    assert {tensor.dtype for tensor in held.values()} == {torch.float16, torch.int64}
    assert_same(load_network(lite_file), lite)
    assert_same(load_network(str(lite_file)), lite)
    assert sorted(os.listdir(lite_file.parent)) == ['lite.safetensors']


def test_a_fused_network_is_saved_unfused(lite, tmp_path):
    fused = load_state(lite).fuse()
    save_network(fused, tmp_path / 'fused.safetensors')
    assert any('unpool_fused' in name for name in fused.state_dict())
    assert_same(load_network(tmp_path / 'fused.safetensors'), lite)
    torch.save(fused.state_dict(), tmp_path / 'fused.pt')
    assert_same(load_network(tmp_path / 'fused.pt'), lite)


def load_state(network):
    copy = HybridDepthNet(network.encoder_name).eval()
    copy.load_state_dict(network.state_dict())
    return copy


def test_values_beyond_float16_survive(lite, tmp_path):
    network = load_state(lite)
    network.encoder.bn1.running_var.fill_(1e6)
    save_network(network, tmp_path / 'large.safetensors')
    loaded = load_network(tmp_path / 'large.safetensors')
    assert torch.equal(loaded.encoder.bn1.running_var, network.encoder.bn1.running_var)


@pytest.mark.parametrize('lateral', [True, False])
@pytest.mark.parametrize('encoder', sorted(set(ENCODERS) - {'resnet50'}))
def test_encoder_and_lateral_follow_from_the_tensors(encoder, lateral, tmp_path):
    network = HybridDepthNet(encoder, lateral).eval()
    path = tmp_path / 'plain.safetensors'
    safetensors.torch.save_file(network.state_dict(), path)
    loaded = load_network(path)
    assert (loaded.encoder_name, loaded.lateral) == (encoder, lateral)


def test_tensors_that_share_memory_in_a_file_do_not_after_loading(lite, tmp_path):
    state = lite.state_dict()
    a, b = 'up_projections.0.main_bn1.weight', 'up_projections.0.main_bn2.weight'
    state[b] = state[a]
    torch.save(state, tmp_path / 'shared.pth')
    parameters = dict(load_network(tmp_path / 'shared.pth').named_parameters())
    assert parameters[a].data_ptr() != parameters[b].data_ptr()


def published_names(name):
    """The names in the authors' file for one of ours; unpoolings have two."""
    if name.startswith('encoder.'):
        return [name.removeprefix('encoder.')]
    for ours, theirs in (('reduction.', 'conv2.'), ('reduction_bn.', 'bn2.'), ('head.', 'conv3.')):
        if name.startswith(ours):
            return [theirs + name.removeprefix(ours)]
    if match := re.fullmatch(r'laterals\.(\d)\.(.*)', name):
        return [f'con_conv{int(match[1]) + 1}.conv.{match[2]}']
    i, part, rest = re.fullmatch(r'up_projections\.(\d)\.(\w+)\.(.*)', name).groups()
    block = f'up_proj{int(i) + 1}'
    theirs = {'unpool_main': ['unpool_main', 'main_branch.0'],
              'unpool_residual': ['unpool_res', 'residual_branch.0'],
              'main_bn1': ['main_branch.1'], 'main_conv': ['main_branch.3'],
              'main_bn2': ['main_branch.4'], 'residual_bn': ['residual_branch.1']}[part]
    return [f'{block}.{their}.{rest}' for their in theirs]


@pytest.mark.parametrize('zipped', [True, False])  # the authors' file is from before the zip form
def test_published_names(resnet50, tmp_path, zipped):
    published = {theirs: tensor for name, tensor in resnet50.state_dict().items()
                 for theirs in published_names(name)}
    assert len(published) == 531
    path = tmp_path / 'hyb_net_weights.model'
    torch.save(published, path, _use_new_zipfile_serialization=zipped)
    loaded = load_network(path)
    assert sum(p.numel() for p in loaded.parameters()) == 64_614_017
    assert_same(loaded, resnet50)
    if zipped:
        del published['con_conv2.conv.bias'], published['layer1.0.conv1.weight']
        torch.save({**published, 'surplus': torch.zeros(1)}, path)
        with pytest.raises(ValueError, match=r'missing: encoder\.layer1\.0\.conv1\.weight, '
                           r'laterals\.1\.bias; left over: surplus'):
            load_network(path)


def test_paper_nyu_by_name(resnet50, tmp_path, monkeypatch):
    """A file put into the cache by hand is taken as it is."""
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path))
    monkeypatch.setitem(REGISTRY, 'paper-nyu',
                        replace(REGISTRY['paper-nyu'], address='http://127.0.0.1:9/'))
    torch.save(resnet50.state_dict(), tmp_path / 'hyb_net_weights.model')
    assert load_network('paper-nyu').encoder_name == 'resnet50'
    (tmp_path / 'hyb_net_weights.model').write_bytes(b'cut')
    with pytest.raises(ValueError, match=r'hyb_net_weights\.model is cut short.*delete the file'):
        load_network('paper-nyu')


def changed(state, **tensors):
    return {**state, **{name.replace('__', '.'): tensor for name, tensor in tensors.items()}}


def test_tensors_that_do_not_fit_are_named(tiny, tmp_path):
    state, path = HybridDepthNet('tiny').eval().state_dict(), tmp_path / 'bad.pt'
    without = {name: tensor for name, tensor in state.items() if not name.startswith('reduction')}
    for bad, text in (
        (without, r'missing: reduction\.weight, reduction\.bias, reduction_bn\.weight and 3 more'),
        (changed(state, head__bias=torch.zeros(2)), r'shapes of .*tiny.*: head\.bias'),
        (changed(state, head__scale=torch.zeros(1)), r'missing: none; left over: head\.scale'),
        (changed(state, head__bias=torch.tensor([torch.nan])), r'NaN or infinite.*head\.bias'),
        (changed(state, head__bias=torch.tensor([torch.inf]).half()), 'NaN or infinite'),
        (changed(state, head__bias=torch.tensor([1e300], dtype=torch.float64)), 'NaN or inf'),
        (changed(state, head__bias=torch.zeros(1).to_sparse()), r'not plain tensors.*head\.bias'),
        (changed(state, head__bias=torch.zeros(1, dtype=torch.complex64)), 'not plain tensors'),
        (changed(state, head__bias=torch.zeros(1, device='meta')), 'not plain tensors'),
        ({'fc.weight': torch.zeros(3)}, r'no tensor is of a network.*fc\.weight'),
        ({}, 'no tensor is of a network'),
        ({'network': state, 'step': 3}, 'not a state dict.*network, step'),
        ({1: torch.zeros(1)}, 'not a state dict'),
        ([torch.zeros(1)], 'not a state dict.*list'),
        (torch.zeros(1), 'not a state dict.*Tensor'),
    ):
        torch.save(bad, path)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


def test_safetensors_metadata_that_does_not_fit(lite, tmp_path):
    path = tmp_path / 'bad.safetensors'
    for metadata, text in (({'encoder': 'vgg'}, "unknown encoder 'vgg'"),
                           ({'encoder': LITE, 'lateral': 'maybe'}, "'lateral' is 'maybe'"),
                           ({'encoder': LITE, 'lateral': 'false'}, r'left over: laterals\.0'),
                           ({'encoder': 'resnet50'}, 'resnet50')):
        safetensors.torch.save_file(lite.state_dict(), path, metadata)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, 'w')


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('suffix', ['.model', '.pth', '.pt'])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, suffix, zipped):
    mark, path = tmp_path / 'ran', tmp_path / f'bad{suffix}'
    torch.save({'conv1.weight': Malicious(str(mark))}, path,
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'more than tensors.*open.*refused') as raised:
        load_network(path)
    assert str(path) in str(raised.value)
    assert 'weights_only' not in str(raised.value)
    assert not mark.exists()

POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 258000000\n'


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('suffix', ['.safetensors', '.model'])
def test_files_that_are_not_weights(lite, lite_file, tmp_path, suffix):
    path = tmp_path / f'file{suffix}'
    if suffix == '.safetensors':
        whole = [lite_file.read_bytes()]
    else:
        for name, zipped in (('zip', True), ('legacy', False)):
            torch.save(lite.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
        whole = [(tmp_path / name).read_bytes() for name in ('zip', 'legacy')]
    cuts = [data[:size] for data in whole
            for size in (3, 40, 3000, len(data) // 2, len(data) - 5)]
    for content, text in (
        (b'', 'is empty'), (POINTER, 'git lfs pull'), (b'\n<!DOCTYPE html><html>', 'web page'),
        *((content, 'safetensors file|cut short') for content in (
            b'these are no weights\n' * 99, bytes(999), b'\x80\x04\x95' + bytes(99), *cuts)),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=text) as raised:
            load_network(path)
        assert str(path) in str(raised.value)


def test_paths_that_are_no_weights_file(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        load_network(tmp_path)
    (tmp_path / 'depth.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match=r'depth\.onnx: .*\.safetensors, \.model, \.pth'):
        load_network(tmp_path / 'depth.onnx')
    with pytest.raises(FileNotFoundError, match=r'none\.pth.*lite-nyu, paper-nyu'):
        load_network(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match=r'lite_nyu: .*did you mean lite-nyu\?'):
        load_network('lite_nyu')
    monkeypatch.setattr(registry, 'DATA', tmp_path)
    with pytest.raises(FileNotFoundError, match=r'lite-nyu\.safetensors.*install'):
        load_network('lite-nyu')


def test_home_folder_is_understood(lite_file, monkeypatch):
    monkeypatch.setenv('HOME', str(lite_file.parent))
    assert load_network('~/lite.safetensors').encoder_name == LITE


def test_lite_nyu_comes_from_the_package(lite, tmp_path, monkeypatch):
    assert weights.DATA.parent.samefile(os.path.dirname(os.path.dirname(weights.__file__)))
    monkeypatch.setattr(registry, 'DATA', tmp_path)
    save_network(lite, tmp_path / 'lite-nyu.safetensors')
    assert_same(load_network('lite-nyu'), lite)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv('HYBRID_DEPTH_CACHE', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert files.cache_folder() == tmp_path / '.cache' / 'hybrid_depth_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert files.cache_folder() == tmp_path / 'xdg' / 'hybrid_depth_ros'
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path / 'own'))
    assert files.cache_folder() == tmp_path / 'own'


def test_importing_costs_little():
    code = ('import time\n'
            'start = time.perf_counter()\n'
            'import hybrid_depth_ros.weights\n'
            'print(time.perf_counter() - start)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


@pytest.mark.parametrize(('name', 'said'), [
    ('depth_head.scratch.output_conv1.weight', "take the same network in transformers' format"),
    ('backbone.embeddings.cls_token', 'put config.json and preprocessor_config.json beside it')])
def test_tensors_of_other_code_are_recognised(name, said, tmp_path):
    """The advice was to pass weights that train.nyu wrote, which these users don't have."""
    safetensors.torch.save_file({name: torch.zeros(3)}, tmp_path / 'x.safetensors')
    with pytest.raises(ValueError, match=said):
        load_network(tmp_path / 'x.safetensors')
    (tmp_path / 'config.json').write_text('{}')
    if name.startswith('backbone'):
        with pytest.raises(ValueError, match=f'pass its folder, {tmp_path}'):
            load_network(tmp_path / 'x.safetensors')


@pytest.mark.parametrize(('files', 'advice'), [
    (['best.safetensors', 'last.pt'], 'pass {}/best.safetensors'), (['last.pt'], 'pass {}/last.pt'),
    (['net.onnx', 'notes.txt'], 'pass {}/net.onnx'), (['a.pth', 'b.pth'], 'as {}/b.pth'),
    (['run/best.safetensors'], 'as {}/run'), (['models--org--net/refs/main'], 'as {}/models--org'),
    (['snapshots/0123/config.json'], 'by weights hf:'), (['readme.md'], 'no weights file')])
def test_a_folder_says_what_of_it_to_pass(files, advice, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b'x')
    with pytest.raises(IsADirectoryError) as raised:
        weights_path(tmp_path)
    assert advice.format(tmp_path) in str(raised.value)
