"""Which pairs train a network, which validate it, and which cannot be read."""

from typing import NamedTuple

from train.configuration import VALIDATION_OPTION
from train.datasets.pairs import RgbdDataset, Subset, equally_spaced, split_readable
from train.datasets.reprojected_views import source_name


class Split(NamedTuple):
    """training: sets; validation, shown: a set each, in the process that leads; lost: a sentence
    for each pair known to be left out.
    """

    training: list
    validation: RgbdDataset | None
    shown: RgbdDataset | None
    lost: list

    @property
    def images(self):
        """How many pairs train."""
        return sum(map(len, self.training))


def split_datasets(config, data, lead, strict=False):
    """The Cut of datasets; validation is cut from the first, and views of it from the others.

    Raises OSError where nothing is left, or strict and a pair cannot be read.
    """
    ranges = config['validation']
    training = list(data)
    if ranges:
        training, held = hold_out(data, ranges, VALIDATION_OPTION)
    lost = [sentence for dataset in data for sentence in dataset.left_out]
    validation = None
    if not lead:
        return Split(training, None, None, lost)
    if ranges:
        validation, unreadable = split_readable(held)
        lost += unreadable
        if not len(validation):
            raise OSError(f'not one validation pair can be read; the first: {unreadable[0]}')
    shown, unreadable = split_readable(equally_spaced(validation or training[0], 4))
    lost = list(dict.fromkeys(lost + unreadable))
    if strict and lost:
        raise OSError(f'{lost[0]} ({len(lost)} such pairs so far)')
    return Split(training, validation, shown, lost)


def hold_out(data, ranges, option):
    """Datasets without what lies in the ranges of the first, and that.

    Views of it are left out of the others. option: how people choose other ranges. Raises OSError
    where nothing is left.
    """
    held = data[0].numbered(ranges, option=option)
    names = {held.name(i) for i in range(len(held))}
    return [data[0].numbered(ranges, keep=False, option=option), *_without(data[1:], names)], held


def _without(datasets, names):
    """The datasets without views of the pairs of these names."""
    for dataset in datasets:
        shown = (dataset.name(i) for i in range(len(dataset)))
        chosen = [i for i, name in enumerate(shown)
                  if source_name(name) == name or source_name(name) not in names]
        yield dataset if len(chosen) == len(dataset) else Subset(dataset, chosen)
