"""What stands on a command line: paths with a home folder, numbers that are numbers."""

from argparse import ArgumentTypeError

from hybrid_depth_ros.files import expanded


def user_path(text):
    """A Path, ``~`` being a home folder; ArgumentTypeError where that is not known."""
    try:
        return expanded(text)
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
