"""Command lines: parsers, types of arguments, and the sentence with which a command ends."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_depth_ros.errors import explain, setup_console
from hybrid_depth_ros.files import expand_user


def argument_parser(doc: str | None, **options: Any) -> ArgumentParser:
    """Set the console up, see :func:`hybrid_depth_ros.errors.setup_console`, and return a parser.

    Args:
        doc: The description of the command.
        options: For argparse.ArgumentParser.
    """
    setup_console()
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter, **options)


@contextmanager
def exit_on_error(name: str, stopped: str | None = None) -> Iterator[None]:
    """Turn an OSError or ValueError in the block into a sentence that ends the command.

    Args:
        name: Of the command.
        stopped: What Ctrl-C ends it with; None: KeyboardInterrupt is raised.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        sys.exit(f'{name}: {explain(error)}')
    except KeyboardInterrupt:
        if stopped is None:
            raise
        sys.exit(f'{name}: {stopped}')


def check_minimum(parser: ArgumentParser, args: Namespace, **least: float) -> None:
    """End the command with a sentence where an argument is less than its minimum."""
    for name, fewest in least.items():
        if (value := getattr(args, name)) is not None and value < fewest:
            parser.error(f'--{name} is {value}; it must be at least {fewest}')


def user_path(text: str) -> Path:
    """Return the path of an argument, with ``~`` replaced by the home folder.

    Raises:
        ArgumentTypeError: The home folder is not known.
    """
    try:
        return expand_user(text)
    except OSError as error:
        raise ArgumentTypeError(str(error)) from error


def number(least: float | None = None, above: float | None = None,
           kind: type[float] | type[int] = float) -> Callable[[str], float]:
    """Return a type for argparse: finite numbers.

    Args:
        least: The minimum.
        above: What the number must exceed.
        kind: float, or int for whole numbers.
    """
    def parse(text: str) -> float:
        wanted = ('a whole number' if kind is int else 'a number') + (
            '' if least is above is None else
            f' above {above:g}' if least is None else f' of at least {least:g}')
        try:
            value = kind(text)
            fits = float('-inf') < value < float('inf') and (
                least is None or value >= least) and (above is None or value > above)
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            raise ArgumentTypeError(f'{text!r} is not {wanted}')
        return value
    return parse
