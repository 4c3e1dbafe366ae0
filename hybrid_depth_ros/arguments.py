"""What stands on a command line: paths with a home folder, numbers that are numbers; its end."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import contextmanager

from hybrid_depth_ros.errors import explain, setup_console
from hybrid_depth_ros.files import expand_user


def argument_parser(doc, **options):
    """The parser of a command; :func:`hybrid_depth_ros.errors.setup_console` is called first."""
    setup_console()
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter, **options)


@contextmanager
def exit_on_error(name, stopped=None):
    """What goes wrong inside ends the command `name` with a sentence; Ctrl-C with `stopped`."""
    try:
        yield
    except (OSError, ValueError) as error:
        sys.exit(f'{name}: {explain(error)}')
    except KeyboardInterrupt:
        if stopped is None:
            raise
        sys.exit(f'{name}: {stopped}')


def check_minimum(parser, args, **least):
    """End with a sentence where a number that was given is less than its least."""
    for name, fewest in least.items():
        if (value := getattr(args, name)) is not None and value < fewest:
            parser.error(f'--{name} is {value}; it must be at least {fewest}')


def user_path(text):
    """A Path, ``~`` being a home folder; ArgumentTypeError where that is not known."""
    try:
        return expand_user(text)
    except OSError as error:
        raise ArgumentTypeError(str(error)) from error


def number(least=None, above=None, kind=float):
    """A type for argparse: finite numbers from `least` on, or above `above`; kind: or int."""
    def parse(text):
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
