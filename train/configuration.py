"""The configuration of a training: every key, its default and what it may be.

:func:`load_config` reads one from a YAML file and ``KEY=VALUE`` overrides.
"""

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from hybrid_depth_ros.network import ENCODERS

Pair = tuple[float, float]

def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class AugmentationConfig:
    """How one training sample is changed at random (:func:`train.augment.augment`).

    The first five keys are the paper's (Harsányi et al. 2018, section 4), the others lite's.
    """

    #: Zoom by s, lowest and highest; depths are divided by s. A camera of s times the focal
    #: length sees an object at depth z as the first camera sees it at z/s.
    scale: Pair = (1.0, 1.5)
    #: Degrees of rotation about the optical axis, either way, at most.
    rotation: float = 5.0
    #: Factor of each colour channel, lowest and highest.
    colour: Pair = (0.8, 1.2)
    #: Probability of mirroring.
    flip: float = 0.5
    #: Sample colour by nearest neighbour, as the paper does; otherwise with antialiasing.
    nearest: bool = False
    #: Pixels at each side that show no scene (NYU's white frame). They are painted over with
    #: their neighbours, and have no depth.
    border: int = 0
    #: Degrees that the camera is turned about its centre, up or down and to a side, at most.
    #: Depth becomes that along the new optical axis.
    tilt: float = 0.0
    #: Probability of a cut-out instead: a zoom beyond `scale`, as far as the image has pixels for
    #: it, with the camera turned to where it is, and rolled by up to three times `rotation`.
    cutout: float = 0.0
    #: Strength of brightness jitter: 0.2 is a factor of 0.8…1.2.
    brightness: float = 0.0
    #: Strength of contrast jitter.
    contrast: float = 0.0
    #: Strength of gamma jitter, in log gamma.
    gamma: float = 0.0
    #: Strength of saturation jitter.
    saturation: float = 0.0
    #: Probability of a grey image.
    grey: float = 0.0
    #: Probability of sensor noise.
    noise: float = 0.0
    #: Probability of blur.
    blur: float = 0.0
    #: Probability of a lower resolution, so that sharpness says nothing of a zoom.
    coarse: float = 0.0
    #: Probability of an erased rectangle. The loss still asks for its depth.
    erase: float = 0.0

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> 'AugmentationConfig':
        """The keys of a YAML file; those left out have their defaults."""
        return cls(**{key: _tuples(value) for key, value in keys.items()})

    def to_keys(self) -> dict[str, Any]:
        """As YAML and checkpoints hold it: lists for tuples, what is no default."""
        return {key: _lists(value) for key, value in asdict(self).items()
                if value != getattr(AugmentationConfig, key)}


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides a training, beside its data and initial weights."""

    #: One of :data:`hybrid_depth_ros.network.ENCODERS`.
    encoder: str = 'efficientnet_lite0'
    #: U-Net connections from the encoder to the decoder.
    lateral: bool = True
    #: Estimate the standard deviation of depth too. Depth does not pay for it.
    uncertainty: bool = False
    #: Probability of dropout before the decoder's last layer.
    dropout: float = 0.5
    #: Probability of skipping the encoder's last residual branch; less for those before it.
    drop_path: float = 0.0
    #: Standard deviation of the decoder's initial weights; 0: torch's own initialisation.
    decoder_std: float = 0.0
    #: Depth that the last layer's bias starts from, m.
    head_bias: float = 0.0
    #: Number of epochs.
    epochs: int = 40
    #: Samples in an epoch; 0: every image once.
    epoch_images: int = 0
    #: Samples in a batch, of all processes together.
    batch: int = 16
    #: Loading processes of each training process.
    workers: int = 1
    #: ``adamw`` or ``sgd``.
    optimiser: str = 'adamw'
    #: Momentum of sgd.
    momentum: float = 0.9
    #: Highest learning rate.
    lr: float = 2e-3
    #: The encoder's learning rate, a share of `lr`.
    encoder_lr: float = 1.0
    #: Share of the steps in which the rate rises; then half a cosine falls to 0.
    warmup: float = 0.1
    #: ``[[epoch, rate], …]`` instead of `lr` and `warmup`: each rate holds from its epoch on.
    lr_steps: tuple[tuple[float, float], ...] = ()
    #: Weight decay of the optimiser.
    weight_decay: float = 1e-2
    #: Largest norm of the gradient; 0: no clipping.
    clip: float = 0.0
    #: Weights of the loss terms, which have the same names in :mod:`train.loss`.
    berhu: float = 1.0
    log_l1: float = 0.0
    log_scale: float = 0.0
    scale_free: float = 0.0
    log_gradient: float = 0.0
    #: Decay of the exponential moving average of the weights; 0: no average.
    ema: float = 0.0
    #: Share of the steps before averaging starts.
    ema_start: float = 0.5
    #: ``fp32``, ``bf16``, ``fp16``, or ``fp64`` to compare the arithmetic of two runs.
    precision: str = 'fp32'
    #: Compute each unpooling as one convolution (the same result).
    fused: bool = False
    #: ``torch.compile``: minutes at the start, then faster steps on a GPU.
    compile: bool = False
    #: Prefixes of the encoder's tensors that do not train.
    freeze: tuple[str, ...] = ()
    #: ``[[first, last], …]``: frame numbers kept out of training, for validation.
    validation: tuple[tuple[int, int], ...] = ()
    #: Epochs between two validations.
    validate_every: int = 5
    #: See :class:`AugmentationConfig`.
    augment: AugmentationConfig = field(default_factory=AugmentationConfig)
    #: Share of the samples with a window of another sample pasted in.
    mix: float = 0.0
    #: Share of the samples of the other sets that take the colours of an image of the first set.
    style: float = 0.0
    #: Seed of all random numbers.
    seed: int = 0

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> 'TrainingConfig':
        """The keys of a YAML file; those left out have their defaults. :func:`load_config`
        checks them."""
        values: dict[str, Any] = {
            key: AugmentationConfig.from_keys(value) if key == 'augment' else _tuples(value)
            for key, value in keys.items()}
        return cls(**values)

    def to_keys(self) -> dict[str, Any]:
        """As YAML and checkpoints hold it: lists for tuples, of `augment` what is no default."""
        return {**{key: _lists(value) for key, value in asdict(self).items()},
                'augment': self.augment.to_keys()}


DEFAULTS = TrainingConfig().to_keys()
CHOICES: Mapping[str, Collection[str]] = {
    'encoder': ENCODERS, 'optimiser': ('adamw', 'sgd'),
    'precision': ('fp32', 'bf16', 'fp16', 'fp64')}
VALIDATION_OPTION = '--set validation=[[A,B]], or [] for none'


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """The defaults, then the YAML file, then the overrides.

    Args:
        path: A YAML file of keys of :class:`TrainingConfig`.
        overrides: ``KEY=VALUE``, the value in YAML.

    Raises:
        ValueError: A key or a value is wrong. The message names it and where it was given.
        OSError: The file cannot be read.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_bytes()) or {}
        if not isinstance(loaded, dict):
            raise yaml.YAMLError('it holds no keys')
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not a YAML file of keys and values '
                         f'({" ".join(str(error).split())}); pass one like '
                         'config/training/lite.yaml by --config') from error
    given = dict.fromkeys(loaded, str(path))  # where each key was given
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
        loaded[key] = _checked_kind(key, value, given[key])
    for key, fits, wanted in (
            *((key, lambda value: value >= 1, 'at least 1')
              for key in ('epochs', 'batch', 'validate_every')),
            ('workers', lambda value: value >= 0, 'at least 0'),
            ('validation', lambda value: _are_pairs(value, int), 'like [[first, last], …]'),
            ('lr_steps', lambda value: _are_pairs(value, int, float)
             and (not value or value[0][0] <= 0), 'like [[0, 2.0e-3], [20, 1.0e-3]]'),
            ('freeze', lambda value: all(isinstance(name, str) for name in value),
             "a list of names of the encoder's tensors"),
            ('augment', lambda value: all(map(_is_augmentation, value, value.values())),
             'numbers (scale and colour: [low, high]) for '
             + ', '.join(key.name for key in fields(AugmentationConfig)))):
        if key in loaded and not fits(loaded[key]):
            raise ValueError(f'{given[key]}: {key} is {loaded[key]}; it must be {wanted}')
    return TrainingConfig.from_keys(loaded)


def _checked_kind(key: str, value: Any, where: str) -> Any:
    """The value of a key, if it is of its default's kind; ValueError if not."""
    if key not in DEFAULTS:
        raise ValueError(f'{where}: unknown key {key!r}; known: {", ".join(DEFAULTS)}')
    default = DEFAULTS[key]
    if isinstance(default, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # the next lines say what is wrong
            value = float(value)  # YAML reads 8e-4, without a point, as text
    if not (_is_number(value) if isinstance(default, float) else type(value) is type(default)):
        raise ValueError(f'{where}: {key} is {value!r}; it must be like {default!r}')
    if value not in CHOICES.get(key, (value,)):
        raise ValueError(f'{where}: {key} is {value!r}; use one of {", ".join(CHOICES[key])}')
    return value


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and abs(value) < math.inf)


def _is_augmentation(key: str, value: Any) -> bool:
    """Whether it is a key of :class:`AugmentationConfig`, and its value fits."""
    default = {known.name: known.default for known in fields(AugmentationConfig)}.get(key)
    if isinstance(default, tuple):
        return _are_pairs([value], int, float)
    return default is not None and isinstance(value, (int, float)) and abs(value) < math.inf


def _are_pairs(value: Any, *kinds: type) -> bool:
    """Whether it is a list of pairs of numbers of these kinds."""
    return all(isinstance(pair, list) and len(pair) == 2
               and all(type(number) in kinds and abs(number) < math.inf for number in pair)
               for pair in value)
