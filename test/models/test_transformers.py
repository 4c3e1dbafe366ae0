"""Networks of other families against transformers' own pipeline, and against hostile folders."""


import json
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

transformers = pytest.importorskip('transformers')

import safetensors.torch
import small_networks
import torch
from PIL import Image

from hybrid_depth_ros.models import open_model
from hybrid_depth_ros.predictor import DepthPredictor, PredictionOptions
from hybrid_depth_ros.runtimes import export as exports
from hybrid_depth_ros.weights import hub, registry
from hybrid_depth_ros.weights.registry import HYPERSIM

FX = 200.0


def picture(width=160, height=120, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (width, height)))


@pytest.fixture(scope='session')
def folder_of(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = small_networks.make(name, tmp_path_factory.mktemp('models') / name)
        return made[name]
    return folder


def pipeline_depth(folder, rgb):
    pipe = transformers.pipeline('depth-estimation', model=str(folder))
    return pipe(Image.fromarray(rgb))['predicted_depth'].numpy()


def worst(depth, wanted):
    assert depth.shape == wanted.shape
    assert wanted.std() > 1e-2 * np.abs(wanted).mean(), 'a picture that says nothing'
    return np.abs(depth / wanted - 1).max()


@pytest.mark.parametrize('name', small_networks.FAMILIES)
def test_depth_is_that_of_transformers_own_pipeline(name, folder_of):
    folder = folder_of(name)
    predictor = DepthPredictor(str(folder), 'cpu', 'fp32', runtime='torch', relative=True)
    assert predictor.relative == (name in ('depth_anything', 'dpt'))
    pictures = [picture(), picture(200, 100, 1), picture(90, 130, 2)]
    for rgb, depth in zip(pictures, predictor(pictures)):
        assert worst(depth, pipeline_depth(folder, rgb)) <= 1e-4
    together = predictor([pictures[0], picture(seed=3)])
    np.testing.assert_allclose(together[1], predictor(picture(seed=3)), rtol=1e-4)


@pytest.mark.parametrize('name', [n for n in small_networks.FAMILIES if n != 'zoedepth_two'])
def test_openvino_gives_the_same(name, folder_of):
    folder = folder_of(name)
    predictor = DepthPredictor(str(folder), 'cpu', 'fp32', runtime='openvino', relative=True)
    pictures = [picture(), picture(seed=3)]  # of one size: one graph, one by one
    for rgb, depth in zip(pictures, predictor(pictures)):
        assert worst(depth, pipeline_depth(folder, rgb)) <= 1e-3


def test_a_focal_length_scales_what_learnt_through_one_camera(folder_of, monkeypatch):
    metric = str(folder_of('depth_anything_metric'))
    rgb = picture(640, 480)
    plain = DepthPredictor(metric, 'cpu', 'fp32', runtime='torch')
    np.testing.assert_array_equal(plain(rgb), plain(rgb, fx=900.0))  # whose camera nobody knows
    entry = registry.HubNetwork('hf:a/b', None, 'CC-BY-NC-4.0', '', camera=HYPERSIM)
    monkeypatch.setitem(registry.HUB_NAMES, 'known', entry)
    monkeypatch.setattr(hub, 'hub_folder', lambda address: folder_of('depth_anything_metric'))
    known = DepthPredictor('known', 'cpu', 'fp32', runtime='torch')
    assert 'forbids commercial use' in known.model.notes[0]
    # the same field of view at another size is the same camera
    np.testing.assert_allclose(known(rgb, fx=886.81 * 640 / 1024), plain(rgb), rtol=0.02)
    np.testing.assert_allclose(known(rgb, fx=1000.0), 2 * known(rgb, fx=500.0), rtol=1e-4)


def test_depth_pro_takes_the_true_field_of_view_where_it_is_known(folder_of):
    predictor = DepthPredictor(str(folder_of('depth_pro')), 'cpu', 'fp32', runtime='torch')
    near, far = predictor(picture(), fx=100.0), predictor(picture(), fx=200.0)
    np.testing.assert_allclose(far, 2 * near, rtol=1e-4)


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
def test_depth_goes_on_while_a_graph_is_made(runtime, folder_of, monkeypatch, tmp_path):
    """Each size of picture is exported first, which takes as long as the network is large."""
    pytest.importorskip(runtime)
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path))
    name = {'openvino': 'export_openvino', 'onnxruntime': 'export_onnx'}[runtime]
    export, go_on, said = getattr(exports, name), threading.Event(), []

    def slow(*arguments):
        assert go_on.wait(60)
        return export(*arguments)
    monkeypatch.setattr(exports, name, slow)
    folder = str(folder_of('depth_anything_metric'))
    predictor = DepthPredictor(folder, 'cpu', 'fp32', runtime=runtime, log=said.append)
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    wanted = DepthPredictor(folder, 'cpu', 'fp32', runtime='torch')([rgb, rgb.copy()])
    for _ in range(2):  # none waits
        np.testing.assert_allclose(predictor([rgb, rgb]), wanted, rtol=1e-5)
    assert len(said) == 1
    assert 'torch goes on meanwhile' in said[0]
    go_on.set()
    deadline = time.monotonic() + 60
    while len(said) < 2 and time.monotonic() < deadline:
        predictor(rgb)
    assert said[1].startswith(f'{runtime} goes on with images of ')
    assert predictor.runtime._runtime.ready(predictor.preprocess(rgb).pixels[None].shape)
    np.testing.assert_allclose(predictor(rgb), wanted[0], rtol=1e-3)
    assert predictor.runtime._torch is None
    monkeypatch.setattr(predictor.runtime._runtime, 'prepare', lambda _: 1 / 0)
    tall = np.zeros((80, 60, 3), np.uint8)
    while len(said) < 4 and time.monotonic() < deadline + 60:
        assert predictor(tall).shape == (80, 60)
    assert said[3].startswith(f'no graph for {runtime} (ZeroDivisionError')


def test_bf16_is_near(folder_of):
    folder = str(folder_of('depth_anything_metric'))
    exact = DepthPredictor(folder, 'cpu', 'fp32', runtime='torch')(picture())
    half = DepthPredictor(folder, 'cpu', 'bf16', runtime='torch')(picture())
    assert 0 < np.abs(half / exact - 1).mean() < 0.05


def test_the_trial_takes_these_too(folder_of):
    predictor = DepthPredictor(str(folder_of('depth_anything_metric')), 'cpu', 'fp32')
    for name in ('torch fp32', 'openvino fp32', 'onnxruntime fp32'):
        assert re.search(rf'{name} \d+ ms', predictor.reason), predictor.reason


def test_relative_depth_without_anchors_is_refused_with_the_way_out(folder_of):
    with pytest.raises(ValueError, match=r'gives no metres.*give it anchors'):
        DepthPredictor(str(folder_of('dpt')), 'cpu')


def test_what_these_networks_cannot_do_is_said(folder_of):
    folder = str(folder_of('depth_anything_metric'))
    predictor = DepthPredictor(folder, 'cpu', 'fp32', fit='paper', runtime='torch')
    with pytest.raises(ValueError, match='set fit to full'):
        predictor(picture())
    predictor.options = PredictionOptions()
    with pytest.raises(ValueError, match='8 times as long'):
        predictor(np.zeros((2, 400, 3), np.uint8))
    with pytest.raises(ValueError, match='does not run in openvino'):
        DepthPredictor(str(folder_of('zoedepth_two')), 'cpu', runtime='openvino')


def spoil(name, folder):
    """Make a good folder one that must be refused."""
    config, pictures = folder / 'config.json', folder / 'preprocessor_config.json'
    weights = folder / 'model.safetensors'

    def change(path, **entries):
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    if name == 'a pickle alone':
        weights.rename(folder / 'pytorch_model.bin')
    elif name == 'no config':
        config.unlink()
    elif name == 'no pictures':
        pictures.unlink()
    elif name == 'remote code':
        change(config, model_type='evil', auto_map={'AutoModelForDepthEstimation': 'evil.Evil'})
        (folder / 'evil.py').write_text('import os\nos.mkdir("/tmp/evil_was_here")\n')
    elif name == 'a processor of its own':
        change(pictures, image_processor_type='Evil',
               auto_map={'AutoImageProcessor': 'evil.Evil'})
        (folder / 'evil.py').write_text('import os\nos.mkdir("/tmp/evil_was_here")\n')
    elif name == 'a backbone from elsewhere':
        change(config, backbone='facebook/dinov2-small', use_pretrained_backbone=True,
               backbone_config=None)
    elif name == 'a billion layers':
        backbone = json.loads(config.read_text())['backbone_config']
        change(config, backbone_config={**backbone, 'num_hidden_layers': 10**9})
    elif name == 'absurdly wide':
        backbone = json.loads(config.read_text())['backbone_config']
        change(config, backbone_config={**backbone, 'hidden_size': 10**6})
    elif name == 'absurd pictures':
        change(pictures, size={'height': 10**6, 'width': 10**6})
    elif name == 'tensors that claim 10 GB':
        header = json.dumps({'w': {'dtype': 'F32', 'shape': [50_000, 50_000],
                                   'data_offsets': [0, 10**10]}}).encode()
        weights.write_bytes(len(header).to_bytes(8, 'little') + header)
    elif name == 'tensors of another network':
        safetensors.torch.save_file({'w': torch.zeros(300_000)}, weights)
    elif name == 'NaN':
        tensors = safetensors.torch.load_file(weights)
        tensors['head.conv1.bias'].fill_(float('nan'))
        safetensors.torch.save_file(tensors, weights, {'format': 'pt'})
    elif name == 'cut short':
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif name == 'deep JSON':
        config.write_text('[' * 100_000)
    elif name == 'no JSON':
        config.write_text('<html>')
    elif name == 'an adapter':
        (folder / 'adapter_config.json').write_text('{"base_model_name_or_path": "/etc"}')
    elif name == 'attention from the hub':
        change(config, _attn_implementation='evil/kernels')
    elif name == 'another say on pictures':
        (folder / 'processor_config.json').write_text(json.dumps({'image_processor': {
            **json.loads(pictures.read_text()), 'size': {'height': 10**6, 'width': 10**6}}}))
    elif name == 'two files of tensors':
        weights.rename(folder / 'model-00001-of-00002.safetensors')
    elif name == 'no max_depth':
        config.write_text(json.dumps({name: value for name, value in json.loads(
            config.read_text()).items() if name != 'max_depth'}))
    elif name == 'max_depth null':
        change(config, max_depth=None)
    elif name == 'another kind of network':
        change(config, model_type='bert')
    elif name == 'a huge config':
        config.write_text('{"a": "' + 'x' * (2 << 20) + '"}')


@pytest.mark.parametrize(('name', 'said'), [
    ('a pickle alone', 'a pickle'), ('no config', 'is not there'), ('no pictures', 'is not there'),
    ('remote code', 'is a evil network'), ('a processor of its own', 'will not do'),
    ('a backbone from elsewhere', 'backbone from elsewhere'), ('a billion layers', 'layers is'),
    ('absurdly wide', 'million numbers|layers|cannot be loaded'),
    ('absurd pictures', 'pixels a side'),
    ('tensors that claim 10 GB', 'not a whole safetensors'),
    ('tensors of another network', 'not those of its config|million|fits no network'),
    ('NaN', 'NaN or infinite'),
    ('an adapter', 'an adapter'), ('attention from the hub', 'code from elsewhere'),
    ('another say on pictures', 'pixels a side'),
    ('cut short', 'not a whole safetensors'), ('deep JSON', 'no JSON'), ('no JSON', 'no JSON'),
    ('two files of tensors', 'save them as one'), ('no max_depth', 'max_depth is None; .* 20 for'),
    ('max_depth null', 'max_depth is None; .* 20 for'),
    ('another kind of network', 'is a bert network'), ('a huge config', 'no config needs')])
def test_hostile_folders_are_one_sentence(name, said, folder_of, tmp_path):
    folder = tmp_path / 'bad'
    shutil.copytree(folder_of('depth_anything_metric'), folder)
    spoil(name, folder)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ValueError, match=said) as raised:
        open_model(str(folder)).module()
    assert '\n' not in str(raised.value)
    assert time.monotonic() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB
    assert not Path('/tmp/evil_was_here').exists()


def test_nothing_of_this_is_imported_for_lite_or_asks_the_network(folder_of):
    code = '''
import sys
def watch(event, arguments):
    if event in ('socket.getaddrinfo', 'socket.connect'):
        print(event, arguments, flush=True)
sys.addaudithook(watch)
import numpy as np
from hybrid_depth_ros.predictor import DepthPredictor, PredictionOptions
rgb = np.zeros((480, 640, 3), np.uint8)
DepthPredictor('lite-nyu', device='cpu', runtime='openvino')(rgb)
others = {'transformers', 'huggingface_hub', 'onnx', 'safetensors', 'torch', 'PIL', 'yaml',
          *(f'hybrid_depth_ros.models.{name}' for name in ('transformers', 'onnx_file', 'hub'))}
print(sorted(others & set(sys.modules)))
DepthPredictor(sys.argv[1], 'cpu', 'fp32', runtime='torch')(rgb)
'''
    done = subprocess.run(
        [sys.executable, '-c', code, str(folder_of('depth_anything_metric'))],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '[]\n'


def test_the_page_lists_every_name():
    page = (Path(__file__).parents[2] / 'docs' / 'models.md').read_text()
    listed = re.findall(r'^\| `([\w-]+)` \| (metres|no metres) \| (\d*) \| (.*?) \| (.*?) \| '
                        r'(.*?) \| (.*?) \| `(.*?)` \|$', page, re.MULTILINE)
    assert listed == [
        (name, 'no metres' if entry.relative else 'metres', str(entry.size or ''),
         entry.licence + (' **not commercial**' if entry.note else ''),
         entry.trained, entry.published,
         '{:g} at {}×{}'.format(*entry.camera) if entry.camera else '', entry.address)
        for name, entry in registry.HUB_NAMES.items()]


def test_a_folder_of_the_hubs_cache_is_taken(folder_of, tmp_path):
    """models--ORG--NAME itself: "pass the weights file inside it", of which it holds none."""
    snapshot = tmp_path / 'models--rooms--small' / 'snapshots' / '0123'
    shutil.copytree(folder_of('depth_anything_metric'), snapshot)
    assert open_model(str(tmp_path / 'models--rooms--small')).path == snapshot


def test_tensors_in_several_files_are_read(folder_of, tmp_path):
    """Large networks come so; one file that is missing is named."""
    whole, rgb = folder_of('depth_anything_metric'), np.full((60, 80, 3), 90, np.uint8)
    network = transformers.AutoModelForDepthEstimation.from_pretrained(whole)
    folder = tmp_path / 'models--rooms--large' / 'snapshots' / '0123'
    network.save_pretrained(folder, max_shard_size='200KB')
    shutil.copy(whole / 'preprocessor_config.json', folder)
    parts = sorted(folder.glob('model-*.safetensors'))
    assert len(parts) > 1 and not (folder / 'model.safetensors').exists()
    options = {'device': 'cpu', 'runtime': 'torch', 'precision': 'fp32'}
    np.testing.assert_allclose(
        DepthPredictor(str(tmp_path / 'models--rooms--large'), **options)(rgb),
        DepthPredictor(str(whole), **options)(rgb), rtol=1e-5)
    parts[0].unlink()
    with pytest.raises(ValueError, match=rf'index\.json names {parts[0].name}, which'):
        open_model(str(folder))
