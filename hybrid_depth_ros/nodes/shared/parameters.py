"""Node parameters as data: declared, described and checked in one way."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

T = TypeVar('T')


def yaml_quoted(text: str) -> str:
    """Quote a text for a parameter's value on a command line, which ROS reads as YAML.

    ``no``, ``{a}.avi`` and ``Teil: 1.avi`` stay texts (launch#508).
    """
    return '"' + ''.join(
        character if character.isprintable() and character not in '"\\' else
        f'\\U{ord(character):08x}' for character in text) + '"'


@dataclass(frozen=True)
class Setting:
    """One parameter of a node.

    Attributes:
        name: Of the parameter.
        default: Its value where none is given.
        description: One line for ``ros2 param describe`` and the docs.
        choices: The values allowed; empty: any.
        range: (lowest, highest); empty: any.
        unit: Of the value.
        changeable: It may change while the node runs.
        any_type: Numbers are taken for a text (``-p source:=0``).
    """

    name: str
    default: Any
    description: str
    choices: tuple[Any, ...] = ()
    range: tuple[float, ...] = ()
    unit: str = ''
    changeable: bool = False
    any_type: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the rcl_interfaces/ParameterDescriptor that says all this."""
        descriptor = ParameterDescriptor(
            description=self.description + (f' [{self.unit}]' if self.unit else ''),
            read_only=not self.changeable, dynamic_typing=self.any_type)
        if self.choices:
            descriptor.additional_constraints = 'one of: ' + ', '.join(map(str, self.choices))
        if self.range and isinstance(self.default, float):
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=float(self.range[0]), to_value=float(self.range[1]))]
        elif self.range:
            descriptor.integer_range = [IntegerRange(
                from_value=self.range[0], to_value=self.range[1])]
        return descriptor

    def expected(self) -> str:
        """Say what a value must be."""
        kind = {bool: 'true or false', int: 'a whole number', float: 'a number with a point',
                str: 'a text', tuple: 'a list of texts'}[type(self.default)]
        between = f' from {self.range[0]} to {self.range[1]}' if self.range else ''
        return f'{kind}{between} {self.unit}'.strip()

    def type_error(self, value: Any) -> str | None:
        """Say why rclpy would not take `value` while the node runs, or None."""
        kind = (list, tuple) if isinstance(self.default, tuple) else type(self.default)
        good = self.any_type or (isinstance(value, kind) and (
            isinstance(value, bool) == isinstance(self.default, bool)))
        if good and self.range:
            good = self.range[0] <= value <= self.range[1]
        if not good:
            return f'parameter {self.name} is {value!r}; it must be {self.expected()}'
        if not self.changeable:
            return (f'parameter {self.name} may not change while the node runs: set it at the '
                    f'start, -p {self.name}:=…')
        return None

    def yaml_error(self, value: Any, argv: Sequence[str]) -> str | None:
        """Say why a text can't be taken of which YAML made another value, or None.

        Args:
            value: What YAML made of ``no``, ``0123`` or ``film #2.avi``.
            argv: The command line that it was typed on.
        """
        typed = _command_line_value(self.name, argv)
        if not (self.any_type or isinstance(self.default, str)) or typed is None or (
                typed[:1] in ('"', "'") or str(value) == typed):
            return None
        return (f'parameter {self.name} is {typed!r}, of which YAML makes {value!r}; write it in '
                f'quotes for the shell and for YAML: {self.name}:="\'…\'"')

    def value_error(self, value: Any) -> str | None:
        """Say why `value` can't be taken, or None."""
        if self.any_type and type(value) not in (str, int):  # what YAML makes of no, 1e5, [x]
            return (f'parameter {self.name} is {value!r}, {type(value).__name__} to YAML; write it '
                    f'in quotes for the shell and for YAML: {self.name}:="\'…\'"')
        if self.choices and value not in self.choices:
            return (f'parameter {self.name} is {value!r}; it must be one of: '
                    + ', '.join(map(str, self.choices)))
        return None


def parameter(default: T, description: str, *, choices: tuple[Any, ...] = (),
              range: tuple[float, ...] = (), unit: str = '', changeable: bool = False,
              any_type: bool = False) -> T:
    """Make a field of a dataclass of settings a parameter: ``rate: float = parameter(5.0, …)``.

    The arguments are those of :class:`Setting`, whose name is the field's. To the type checker it
    is `default`.
    """
    setting = Setting('', default, description, choices, range, unit, changeable, any_type)
    made: Any = field(default=default, metadata={'setting': setting})
    return made


def settings_of(kind: type[Any]) -> tuple[Setting, ...]:
    """Return the parameters that a dataclass of settings declares."""
    return tuple(replace(each.metadata['setting'], name=each.name) for each in fields(kind))


def _command_line_value(name: str, argv: Sequence[str]) -> str | None:
    """What stands behind ``-p name:=`` on a command line, or None.

    A file of parameters that comes behind it has the last word.
    """
    typed = None
    for flag, rule in zip(argv, argv[1:]):
        parameter, given, value = rule.partition(':=')
        if flag == '--params-file':
            typed = None
        elif flag in ('-p', '--param') and given and parameter.rpartition(':')[2] == name:
            typed = value
    return typed


def declare_parameters(node: Node, kind: type[T], argv: Sequence[str] | None = None) -> T:
    """Declare a node's settings as its parameters.

    Args:
        node: That gets the parameters.
        kind: A dataclass, each field a :func:`parameter`.
        argv: The command line; None: this process's.

    Returns:
        One of `kind`, with the values that the parameters have.

    Raises:
        ValueError: Naming the parameter and what it may be, for a start value of the wrong type,
            out of range, not among the choices, or not what was typed.
    """
    argv = sys.argv if argv is None else argv
    values = {}
    for setting in settings_of(kind):
        try:
            declared = node.declare_parameter(
                setting.name, setting.default, setting.descriptor())
        except ParameterException as error:  # its text is long, and names no mend
            given = node._parameter_overrides[setting.name].value
            raise ValueError(
                setting.yaml_error(given, argv) or f'parameter {setting.name} is {given!r}; '
                f'it must be {setting.expected()}') from error
        reason = setting.yaml_error(declared.value, argv)
        if declared.value is None and not reason:  # of no type to YAML, as [] is
            reason = f'parameter {setting.name} is empty; it must be {setting.expected()}'
        reason = reason or setting.value_error(declared.value)
        if reason:
            raise ValueError(reason)
        values[setting.name] = (
            str(declared.value) if setting.any_type else
            tuple(declared.value) if isinstance(setting.default, tuple) else declared.value)
    return kind(**values)


class RefusalMessages:
    """For a node beside rclpy's class: what is refused while it runs is said as at its start.

    rclpy looks at its descriptors first, and says what it finds there in its own words.
    """

    settings: tuple[Setting, ...] = ()

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]
                                  ) -> SetParametersResult:
        """Set parameters as rclpy's does; the parameter service calls it."""
        known = {setting.name: setting for setting in self.settings}
        for parameter in parameter_list:
            setting, value = known.get(parameter.name), parameter.value
            if setting and (refused := setting.type_error(value) or setting.value_error(value)):
                return SetParametersResult(successful=False, reason=refused)
        return super().set_parameters_atomically(parameter_list)  # type: ignore[misc]
