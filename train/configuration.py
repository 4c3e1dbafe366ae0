"""What a training is told: every key of a configuration, its default and what it may be."""

import contextlib
from pathlib import Path

import yaml

from hybrid_depth_ros.network import ENCODERS
from train.augment import AUGMENTATION

# Every key a configuration may have, and what it is when left out.
DEFAULTS = {
    'encoder': 'efficientnet_lite0',
    'lateral': True,
    'dropout': 0.5,
    'drop_path': 0.0,           # probability of skipping the encoder's last residual branch
    'decoder_std': 0.0,         # decoder weights are drawn from N(0, this); 0: torch's own way
    'head_bias': 0.0,           # metres the last layer starts from
    'epochs': 40,
    'epoch_images': 0,          # samples that count as one epoch; 0: every image once
    'batch': 16,                # of all processes together
    'workers': 1,               # loading processes for each training process
    'optimiser': 'adamw',       # or sgd
    'momentum': 0.9,            # sgd's
    'lr': 2e-3,
    'encoder_lr': 1.0,          # the encoder's share of lr
    'warmup': 0.1,              # share of the steps with rising lr, then half a cosine to 0
    'lr_steps': [],             # [[epoch, lr], …] instead of lr and warmup
    'weight_decay': 1e-2,
    'clip': 0.0,                # gradient norm, 0: as it is
    'berhu': 1.0,               # weights of the loss terms
    'log_l1': 0.0,
    'scale_free': 0.0,
    'log_gradient': 0.0,
    'ema': 0.0,                 # decay of the weight average, 0: none
    'ema_start': 0.5,           # share of the steps before averaging starts
    'precision': 'fp32',        # or bf16, fp16; fp64 shows that two runs are the same arithmetic
    'fused': False,             # compute the unpoolings in fused form
    'compile': False,           # torch.compile: minutes at the start, then faster steps on a GPU
    'freeze': [],               # prefixes of encoder tensors that stay as they are
    'validation': [],           # [[first, last], …] frame numbers kept out of training
    'validate_every': 5,        # epochs
    'augment': {},              # of train.augment.AUGMENTATION
    'mix': 0.0,                 # share of the samples with a window of another one pasted in
    'style': 0.0,               # share of the samples of the other sets that take on the colours
                                # of a picture of the first set
    'seed': 0,
}
CHOICES = {'encoder': tuple(ENCODERS), 'optimiser': ('adamw', 'sgd'),
           'precision': ('fp32', 'bf16', 'fp16', 'fp64')}
VALIDATION_OPTION = '--set validation=[[A,B]], or [] for none'


def load_config(path, overrides=()):
    """DEFAULTS, then the YAML file, then KEY=VALUE overrides; ValueError names a bad key."""
    try:
        loaded = yaml.safe_load(Path(path).read_bytes()) or {}
        if not isinstance(loaded, dict):
            raise yaml.YAMLError('it holds no keys')
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not a YAML file of keys and values '
                         f'({" ".join(str(error).split())}); pass one like '
                         'config/training/lite.yaml by --config') from error
    given = dict.fromkeys(loaded, path)  # where each key was given
    for item in overrides:
        key, equals, value = item.partition('=')
        try:
            loaded[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ''
        if not equals:
            raise ValueError(f'--set {item}: it must be KEY=VALUE, the value in YAML')
        given[key] = '--set'
    for key, value in loaded.items():
        path = given[key]
        if key not in DEFAULTS:
            raise ValueError(f'{path}: unknown key {key!r}; known: {", ".join(DEFAULTS)}')
        default = DEFAULTS[key]
        if isinstance(default, float) and isinstance(value, str):
            with contextlib.suppress(ValueError):  # the next lines say what is wrong
                loaded[key] = value = float(value)  # YAML reads 8e-4, without a point, as text
        fits = (isinstance(value, (int, float)) and not isinstance(value, bool)
                and abs(value) < float('inf')
                if isinstance(default, float) else type(value) is type(default))
        if not fits:
            raise ValueError(f'{path}: {key} is {value!r}; it must be like {default!r}')
        if value not in CHOICES.get(key, (value,)):
            raise ValueError(f'{path}: {key} is {value!r}; use one of {", ".join(CHOICES[key])}')
    config = {**DEFAULTS, **loaded}
    for key, fits, wanted in (
            *((key, lambda value: value >= 1, 'at least 1')
              for key in ('epochs', 'batch', 'validate_every')),
            ('workers', lambda value: value >= 0, 'at least 0'),
            ('validation', lambda value: _pairs(value, int), 'like [[first, last], …]'),
            ('lr_steps', lambda value: _pairs(value, int, float)
             and (not value or value[0][0] <= 0), 'like [[0, 2.0e-3], [20, 1.0e-3]]'),
            ('freeze', lambda value: all(isinstance(name, str) for name in value),
             "a list of names of the encoder's tensors"),
            ('augment', lambda value: all(map(_augments, value, value.values())),
             'numbers (scale and colour: [low, high]) for ' + ', '.join(AUGMENTATION))):
        if not fits(config[key]):
            raise ValueError(f'{given[key]}: {key} is {config[key]}; it must be {wanted}')
    return config


def _augments(name, value):
    """Whether it is of train.augment.AUGMENTATION, and fits."""
    if isinstance(AUGMENTATION.get(name), tuple):
        return _pairs([value], int, float)
    return name in AUGMENTATION and isinstance(value, (int, float)) and abs(value) < float('inf')


def _pairs(value, *kinds):
    """Whether it is a list of pairs of numbers of these kinds."""
    return all(isinstance(pair, list) and len(pair) == 2
               and all(type(number) in kinds and abs(number) < float('inf') for number in pair)
               for pair in value)
