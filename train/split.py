"""Which pairs train a network, which validate it, and which cannot be read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from train.configuration import VALIDATION_OPTION, TrainingConfig
from train.datasets.pairs import RgbdDataset, Subset, equally_spaced, split_readable
from train.datasets.reprojected_views import source_name

SAMPLE_IMAGES = 4  # drawn at the end of each epoch


class Split(NamedTuple):
    """The pairs of a training.

    Attributes:
        training: One or more sets.
        validation: What is cut from the first set; in the main process alone.
        samples: The few pairs that are drawn; in the main process alone.
        skipped: A sentence for each pair that is known to be left out.
    """

    training: list[RgbdDataset]
    validation: RgbdDataset | None
    samples: RgbdDataset | None
    skipped: list[str]

    @property
    def training_images(self) -> int:
        """How many pairs train."""
        return sum(map(len, self.training))


def split_datasets(config: TrainingConfig, data: Sequence[RgbdDataset], is_main: bool,
                   strict: bool = False) -> Split:
    """Cut validation from the first dataset, and views of it from the others.

    Args:
        config: Its ``validation``.
        data: One or more datasets.
        is_main: Whether this process validates and draws.
        strict: Whether a pair that cannot be read is an error.

    Raises:
        OSError: Nothing is left, or `strict` and a pair cannot be read.
    """
    training, held_out = list(data), None
    if config.validation:
        training, held_out = hold_out(data, config.validation, VALIDATION_OPTION)
    skipped = [sentence for dataset in data for sentence in dataset.left_out]
    if not is_main:
        return Split(training, None, None, skipped)
    validation: RgbdDataset | None = None
    if held_out is not None:
        validation, unreadable = split_readable(held_out)
        skipped += unreadable
        if not len(validation):
            raise OSError(f'not one validation pair can be read; the first: {unreadable[0]}')
    samples, unreadable = split_readable(equally_spaced(validation or training[0], SAMPLE_IMAGES))
    skipped = list(dict.fromkeys(skipped + unreadable))
    if strict and skipped:
        raise OSError(f'{skipped[0]} ({len(skipped)} such pairs so far)')
    return Split(training, validation, samples, skipped)


def hold_out(data: Sequence[RgbdDataset], ranges: Sequence[Sequence[int]], option: str
             ) -> tuple[list[RgbdDataset], RgbdDataset]:
    """Take the pairs in these ranges out of the first dataset, and views of them out of the others.

    Args:
        data: One or more datasets.
        ranges: ``[[first, last], …]``, frame numbers, both inclusive.
        option: How people choose other ranges.

    Returns:
        The datasets without the held-out pairs; the held-out pairs.

    Raises:
        OSError: Nothing is left.
    """
    held_out = data[0].numbered(ranges, option=option)
    names = {held_out.name(i) for i in range(len(held_out))}
    return [data[0].numbered(ranges, keep=False, option=option),
            *_without_views(data[1:], names)], held_out


def _without_views(datasets: Sequence[RgbdDataset], names: set[str]) -> Iterator[RgbdDataset]:
    """The datasets without views of the pairs of these names."""
    for dataset in datasets:
        shown = (dataset.name(i) for i in range(len(dataset)))
        chosen = [i for i, name in enumerate(shown)
                  if source_name(name) == name or source_name(name) not in names]
        yield dataset if len(chosen) == len(dataset) else Subset(dataset, chosen)
