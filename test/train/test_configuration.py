"""Configurations: the two recipes, overrides, what is refused."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from train import configuration, networks, optimisation
from train.arguments import add_training_arguments
from train.augment import CROP_HEIGHT, CROP_WIDTH, NETWORK_WIDTH


def test_paper_yaml_is_the_paper():
    """Harsányi et al. 2018, section 4, line by line."""
    config = configuration.load_config('config/training/paper.yaml')
    assert (config.encoder, config.lateral, config.dropout) == ('resnet50', True, 0.5)
    assert (CROP_WIDTH, CROP_HEIGHT, NETWORK_WIDTH) == (320, 256, 352)
    assert config.augment == configuration.AugmentationConfig(
        scale=(1.0, 1.5), rotation=5.0, colour=(0.8, 1.2), flip=0.5, nearest=True)
    assert (config.berhu, config.log_l1, config.log_gradient) == (1.0, 0.0, 0.0)
    assert config.decoder_std == 0.001
    assert (config.optimiser, config.momentum, config.weight_decay, config.batch) == (
        'sgd', 0.9, 0.00025, 16)
    assert 25 <= config.epochs <= 30
    rates = [optimisation.learning_rate(config, epoch / config.epochs)
             for epoch in range(config.epochs)]
    assert rates == [1e-2] * 10 + [5e-3] * 10 + [1e-3] * (config.epochs - 20)
    assert 5 <= rates.count(1e-3) <= 10
    assert (config.clip, config.ema, config.encoder_lr, config.precision) == (
        0, 0, 1, 'fp32')

    network = networks.make_network(config, from_scratch=True)
    assert network.head.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert network.up_projections[0].main_conv.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert network.laterals[0].bias.abs().max() == 0
    optimiser = optimisation.make_optimiser(config, network)
    assert all(group['share'] == 1 and group['weight_decay'] == 0.00025
               and group['momentum'] == 0.9 for group in optimiser.param_groups)
    assert sum(p.numel() for group in optimiser.param_groups
               for p in group['params']) == 64_614_017


def test_lite_yaml_and_overrides(tmp_path):
    config = configuration.load_config(
        'config/training/lite.yaml', ['epochs=3', 'freeze=[]', 'lr=8e-4'])
    assert (config.epochs, config.freeze, config.encoder, config.lr) == (
        3, (), 'efficientnet_lite2', 8e-4)
    bad = tmp_path / 'bad.yaml'
    for text, named in (('encoder: vgg', 'vgg.*resnet50'), ('lr: fast', "lr is 'fast'"),
                        ('batch: 0', 'at least 1'), ('epochs: 2.5', 'epochs is 2.5'),
                        ('- a', 'keys and values'), ('fused: 3', 'fused is 3'),
                        ('a: [', r'bad\.yaml is not a YAML file'), ('workers: -1', 'at least 0'),
                        ('validation: [1, 2]', r'like \[\[first, last\]'),
                        ('lr_steps: [[1, 0.1]]', r'like \[\[0, '), ('freeze: [1]', 'names'),
                        ('augment: {foo: 1}', 'scale, rotation'),
                        ('augment: {scale: 1}', r'low, high')):
        bad.write_text(text)
        with pytest.raises(ValueError, match=named):
            configuration.load_config(bad)
    for text, said in (('epochs', '--set epochs: it must be KEY=VALUE'),
                       ('lr=[', r'--set lr=\[: '), ('epoks=3', "--set: unknown key 'epoks'")):
        with pytest.raises(ValueError, match=f'^{said}'):
            configuration.load_config('config/training/lite.yaml', [text])


def test_a_recipe_has_a_short_name(monkeypatch, tmp_path):
    """From any folder; a path stays a path."""
    monkeypatch.chdir(tmp_path)
    parser = ArgumentParser()
    add_training_arguments(parser)
    for options, recipe in (([], 'lite'), (['--config', 'paper'], 'paper')):
        path = parser.parse_args(['--data', 'x', *options]).config
        assert path.name == f'{recipe}.yaml' and configuration.load_config(path)
    assert parser.parse_args(['--data', 'x', '--config', 'my.yaml']).config == Path('my.yaml')


def test_a_configuration_is_stored_as_it_is_written():
    """Checkpoints hold lists and the keys of YAML, not our classes."""
    config = configuration.load_config('config/training/lite.yaml')
    stored = config.to_keys()
    assert stored['validation'][0] == [129, 166] and stored['augment']['scale'] == [0.75, 1.6]
    assert 'rotation' not in stored['augment']  # the default
    assert configuration.TrainingConfig.from_keys(stored) == config
    with pytest.raises(AttributeError):
        config.lr = 1.0
