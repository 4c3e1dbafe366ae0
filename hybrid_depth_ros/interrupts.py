"""The start of a process of ours: Ctrl-C during imports, which take seconds; missing packages.

An entry point calls :func:`begin_command` or :func:`begin_node` before it imports anything else.
"""

import os
import re
import signal
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

# Which extra of setup.py has a package.
EXTRAS = {
    'torch': 'torch', 'torchvision': 'torch', 'timm': 'torch', 'safetensors': 'torch',
    'openvino': 'openvino', 'onnx': 'onnxruntime', 'onnxruntime': 'onnxruntime',
    'transformers': 'transformers', 'huggingface_hub': 'transformers', 'PIL': 'transformers',
    'rosbags': 'bag', 'matplotlib': 'bag', 'tqdm': 'bag', 'viser': 'viewer', 'nncf': 'quantise',
    'h5py': 'train', 'scipy': 'train', 'tensorboard': 'train', 'bpy': 'synthetic',
    'infinigen': 'synthetic'}

_is_node = False


def begin_command() -> None:
    """Let Ctrl-C end this command silently, as the system does, until it handles signals itself.

    That is from :func:`hybrid_depth_ros.errors.setup_console` on. Where a script started the
    command with ``&``, so that it ignores Ctrl-C, it stays so.
    """
    sys.excepthook = exit_without_package
    with suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin_node() -> None:
    """Let SIGINT and SIGTERM end this node's process with 0 until it handles signals itself.

    Also where a script's ``&`` made it ignore Ctrl-C, because rclpy handles that one too.
    """
    global _is_node
    _is_node = True
    sys.excepthook = exit_without_package
    with suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, exit_at_once)


def exit_without_package(kind: type[BaseException], error: BaseException,
                         trace: TracebackType | None) -> None:
    """Say in a sentence which package is missing; other errors are printed as Python does."""
    package = (error.name or '').split('.')[0] if isinstance(error, ModuleNotFoundError) else ''
    if not package or package in ('hybrid_depth_ros', 'train'):
        sys.__excepthook__(kind, error, trace)
    elif re.match(r'rcl|rosidl|builtin_interfaces|.*_(msgs|srvs|interfaces)$', package):
        print(f"{package}, a part of ROS 2, is not here: source /opt/ros/DISTRO/setup.bash, or pip "
              "install 'hybrid_depth_ros[ros]'", file=sys.stderr)
    else:
        extra = EXTRAS.get(package)
        command = getattr(sys.modules['__main__'], '__spec__', None)
        if command and command.name.startswith('train.') and extra in ('torch', 'bag'):
            extra = 'train'  # all that training needs at once
        install = f"'hybrid_depth_ros[{extra}]'" if extra else package
        print(f'{package} is not installed: pip install {install}', file=sys.stderr)


def is_node_process() -> bool:
    """Whether this process was started as one of this package's nodes."""
    return _is_node


def exit_at_once(*_: Any) -> None:
    """End this process with 0; it has begun nothing that would have to be closed."""
    os._exit(0)
