"""Node parameters as data: declared, described and checked in one way."""

import sys
from typing import Any, NamedTuple

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException


def yaml_quoted(text):
    """A text as ROS takes it for a parameter's value on a command line, which it reads as YAML.

    ``no``, ``{a}.avi`` and ``Teil: 1.avi`` stay texts (launch#508).
    """
    return '"' + ''.join(
        character if character.isprintable() and character not in '"\\' else
        f'\\U{ord(character):08x}' for character in text) + '"'


class Setting(NamedTuple):
    """One parameter of a node.

    choices: the values allowed. range: (lowest, highest). changeable: may change while the
    node runs. any_type: numbers are taken for a text (``-p source:=0``).
    """

    name: str
    default: Any
    description: str
    choices: tuple = ()
    range: tuple = ()
    unit: str = ''
    changeable: bool = False
    any_type: bool = False

    def descriptor(self):
        """The rcl_interfaces/ParameterDescriptor that says all this."""
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

    def wanted(self):
        """What a value must be, in words."""
        kind = {bool: 'true or false', int: 'a whole number', float: 'a number with a point',
                str: 'a text', tuple: 'a list of texts'}[type(self.default)]
        between = f' from {self.range[0]} to {self.range[1]}' if self.range else ''
        return f'{kind}{between} {self.unit}'.strip()

    def misfit(self, value):
        """Why rclpy would not take `value` while the node runs, in our words; or None."""
        kind = {tuple: (list, tuple)}.get(type(self.default), type(self.default))
        good = self.any_type or (isinstance(value, kind) and (
            isinstance(value, bool) == isinstance(self.default, bool)))
        if good and self.range:
            good = self.range[0] <= value <= self.range[1]
        if not good:
            return f'parameter {self.name} is {value!r}; it must be {self.wanted()}'
        if not self.changeable:
            return (f'parameter {self.name} may not change while the node runs: set it at the '
                    f'start, -p {self.name}:=…')
        return None

    def misread(self, value, argv):
        """Where a text was typed and YAML made another `value` of it, as of ``no``, ``0123`` and
        ``film #2.avi``: why it can't be taken, or None. argv: the command line."""
        typed = _typed(self.name, argv)
        if not (self.any_type or isinstance(self.default, str)) or typed is None or (
                typed[:1] in ('"', "'") or str(value) == typed):
            return None
        return (f'parameter {self.name} is {typed!r}, of which YAML makes {value!r}; write it in '
                f'quotes for the shell and for YAML: {self.name}:="\'…\'"')

    def refusal(self, value):
        """Why `value` can't be taken, or None when it can."""
        if self.any_type and type(value) not in (str, int):  # what YAML makes of no, 1e5, [x]
            return (f'parameter {self.name} is {value!r}, {type(value).__name__} to YAML; write it '
                    f'in quotes for the shell and for YAML: {self.name}:="\'…\'"')
        if self.choices and value not in self.choices:
            return (f'parameter {self.name} is {value!r}; it must be one of: '
                    + ', '.join(map(str, self.choices)))
        return None


def _typed(name, argv):
    """What stands behind ``-p name:=`` on a command line, or None; a file of parameters that comes
    behind it has the last word."""
    typed = None
    for flag, rule in zip(argv, argv[1:]):
        parameter, given, value = rule.partition(':=')
        if flag == '--params-file':
            typed = None
        elif flag in ('-p', '--param') and given and parameter.rpartition(':')[2] == name:
            typed = value
    return typed


def declare_parameters(node, settings, argv=None):
    """Declare the settings on a node; returns their values by name.

    Raises ValueError, naming the parameter and what it may be, for a start value of the
    wrong type, out of range, not among the choices, or not what was typed (argv: on which
    command line; None: this process's).
    """
    argv = sys.argv if argv is None else argv
    values = {}
    for setting in settings:
        try:
            parameter = node.declare_parameter(
                setting.name, setting.default, setting.descriptor())
        except ParameterException as error:  # its text is long, and names no mend
            given = node._parameter_overrides[setting.name].value
            raise ValueError(
                setting.misread(given, argv) or f'parameter {setting.name} is {given!r}; it must '
                f'be {setting.wanted()}') from error
        reason = setting.misread(parameter.value, argv)
        if parameter.value is None and not reason:  # of no type to YAML, as [] is
            reason = f'parameter {setting.name} is empty; it must be {setting.wanted()}'
        reason = reason or setting.refusal(parameter.value)
        if reason:
            raise ValueError(reason)
        values[setting.name] = str(parameter.value) if setting.any_type else parameter.value
    return values


class RefusalMessages:
    """For a node beside rclpy's class: what is refused while it runs is said as at its start.

    rclpy looks at its descriptors first, and says what it finds there in its own words.
    """

    settings: tuple = ()  # Setting

    def set_parameters_atomically(self, parameter_list):
        """As rclpy's; the parameter service calls it."""
        known = {setting.name: setting for setting in self.settings}
        for parameter in parameter_list:
            setting, value = known.get(parameter.name), parameter.value
            if setting and (refused := setting.misfit(value) or setting.refusal(value)):
                return SetParametersResult(successful=False, reason=refused)
        return super().set_parameters_atomically(parameter_list)
