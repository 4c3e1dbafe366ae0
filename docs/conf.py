"""Sphinx: docs/*.md and the API reference; rosdoc2 takes this file as well."""

import sys
from pathlib import Path

from sphinx.ext.autodoc.mock import _MockObject

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # rosdoc2 has a __file__ of its own, and finds the package itself

project = 'hybrid_depth_ros'
author = 'hybrid_depth_ros maintainers'
copyright = f'2026, {author}'  # Sphinx' own name for it
version = release = '0.1.0'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build', 'results']
html_theme = 'furo'
html_title = f'{project} {version}'
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of NamedTuples are members too
napoleon_custom_sections = ['Source']
autodoc_default_options = {'members': True, 'member-order': 'bysource',
                           'special-members': '__call__', 'show-inheritance': True}
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
python_use_unqualified_type_names = True

# The reference needs neither ROS nor anything that runs a network, and looks the same with them.
autodoc_mock_imports = [
    'rclpy', 'rcl_interfaces', 'sensor_msgs', 'std_msgs', 'std_srvs', 'diagnostic_msgs',
    'geometry_msgs', 'lifecycle_msgs', 'builtin_interfaces', 'tf2_ros', 'tf2_msgs', 'cv_bridge',
    'launch', 'launch_ros', 'ament_index_python', 'rosbags', 'viser',
    'torch', 'torchvision', 'timm', 'safetensors', 'openvino', 'onnx', 'onnxruntime',
    'transformers', 'huggingface_hub', 'PIL', 'tqdm', 'matplotlib', 'nncf', 'scipy', 'h5py']
rosdoc2_settings = {'enable_autodoc': False}  # it would mock ROS alone
# `torch.Tensor | None` is evaluated when a module is imported, which Sphinx' mocks don't take.
_MockObject.__or__ = _MockObject.__ror__ = lambda self, other: self

# Pages link to these files where they lie in the repository; here they are pages too.
INCLUDED = {'../train/RESULTS.md': 'included/results.md',
            '../hybrid_depth_ros/data/lite-nyu.md': 'included/lite-nyu.md'}


def link_included(app, docname, source):
    for path, page in INCLUDED.items():
        source[0] = source[0].replace(f']({path}', f']({page}')


def setup(app):
    app.connect('source-read', link_included)
