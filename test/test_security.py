"""What the code never does, and what the SROS2 policy allows its nodes."""

import ast
import gc
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('hypothesis')
from rclpy.parameter import Parameter
from stub_depth_node import ScenePredictor

from hybrid_depth_ros.nodes.depth.node import DepthNode

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN = {'eval', 'exec', 'compile', 'os.system', 'os.popen', 'yaml.load', 'yaml.unsafe_load',
             'yaml.full_load', 'PythonExpression', 'subprocess.getoutput',
             'subprocess.getstatusoutput'}

MODULES = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'marshal', 'shelve', 'joblib'}


def dangers(source):
    """(line, what) of everything in Python source that may run what it is given."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.lineno, node.module
        if isinstance(node, ast.Import):  # a plain import: what is used of it is seen below
            yield from ((node.lineno, alias.name) for alias in node.names
                        if alias.name in MODULES and alias.asname)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES and (
                not node.attr.endswith('Error')):
            yield node.lineno, ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if (name in FORBIDDEN or options.get('shell', 'False') != 'False'
                or options.get('allow_pickle', 'False') != 'False'
                or (name == 'torch.load' and options.get('weights_only') != 'True')
                or (name == 'yaml.load_all')):
            yield node.lineno, name


def test_nothing_runs_what_it_is_given():
    sources = [path for folder in ('hybrid_depth_ros', 'train', 'launch')
               for path in (ROOT / folder).rglob('*.py')]
    assert len(sources) > 25
    assert not [(path.name, *danger) for path in sources
                for danger in dangers(path.read_text())]
    for line in ('eval(x)', 'pickle.loads(x)', 'import pickle as p', 'from pickle import load',
                 'os.system(x)', 'subprocess.run(x, shell=True)', 'torch.load(x)', 'yaml.load(x)',
                 'torch.load(x, weights_only=no)', 'np.load(x, allow_pickle=True)'):
        assert list(dangers(line)), line
    assert not list(dangers('import pickle; network.eval(); pickle.UnpicklingError; '
                            'torch.load(x, weights_only=True); yaml.safe_load(x)'))


def allowed(path):
    """{node: {('publish' | 'subscribe' | 'reply' | 'request', full name), …}} of a policy."""
    policy = ElementTree.parse(path).getroot()
    assert (policy.tag, policy.get('version')) == ('policy', '0.2.0')
    nodes = {}
    for enclave in policy.findall('enclaves/enclave'):
        profile, = enclave.findall('profiles/profile')
        node, space = profile.get('node'), profile.get('ns')
        assert enclave.get('path') == space + node
        nodes[node] = rights = set()
        for rule in profile:
            (what, verdict), = rule.attrib.items()
            assert verdict == 'ALLOW'
            for name in (entry.text for entry in rule):
                full = f'{space}{node}{name[1:]}' if name[0] == '~' else (
                    name if name[0] == '/' else space + name)
                assert '*' not in full and (what, full) not in rights
                rights.add((what, full))
    return nodes


def used(node):
    """What a node does in the graph, as :func:`allowed`."""
    who = node.get_name(), node.get_namespace()
    return {(what, name) for what, names in (
        ('publish', node.get_publisher_names_and_types_by_node),
        ('subscribe', node.get_subscriber_names_and_types_by_node),
        ('reply', node.get_service_names_and_types_by_node),
        ('request', node.get_client_names_and_types_by_node)) for name, _ in names(*who)}


def test_the_policy_allows_what_the_nodes_do_and_no_more():
    pytest.importorskip('viser')
    from hybrid_depth_ros.nodes.camera import CameraNode
    from hybrid_depth_ros.nodes.evaluator import EvaluatorNode
    from hybrid_depth_ros.nodes.viewer.node import ViewerNode
    context, done = rclpy.Context(), {}
    rclpy.init(context=context)

    def run(kind, listen=lambda node: None, **parameters):
        """What a node does that follows /clock and listens to all it can."""
        gc.collect()  # a lifecycle node is in the graph until then, which answers for one of a name
        node = kind(context=context, cli_args=['--ros-args', '-r', 'image:=image_raw', '-r',
                                               'image/compressed:=image_raw/compressed',
                                               *(part for kind, topic in (
                                                   ('scan', 'scan'), ('points', 'points'),
                                                   ('range', 'range'), ('motion', 'odom'),
                                                   ('depth', 'depth_registered'))
                                                 for part in ('-r', f'anchors/{kind}:={topic}'))],
                    parameter_overrides=[Parameter(name, value=value) for name, value in {
                        'use_sim_time': True, **parameters}.items()])
        try:
            listen(node)
            done.setdefault(node.get_name(), set()).update(used(node))
        finally:
            node.destroy_node()

    def listen_to_camera(node):
        camera, = node._cameras
        for topic in (camera._images, *camera._anchors.subscriptions.values()):
            topic.update()
    try:
        for transport in ('raw', 'compressed'):
            run(partial(DepthNode, ScenePredictor(0.0)), listen_to_camera,
                image_transport=transport, anchors=['scan', 'points', 'range', 'depth', 'motion'],
                anchor_poses=['0 0 0 0 0 0'], relative_depth=True)
        run(CameraNode)
        run(ViewerNode, lambda node: [topic.set_wanted(True) for topic in (
            *node._topics, node._anchors, node._info, node._sigma, *node._scan)],
            port=0, floor_map=True)
        run(EvaluatorNode, lambda node: [packed.update() for _, packed in node._inputs])
    finally:
        rclpy.shutdown(context=context)
    # by tf2_ros, which may not be here
    done['depth_node'] |= {('publish', '/tf'), ('subscribe', '/tf'), ('subscribe', '/tf_static')}
    done['camera_node'].add(('publish', '/tf_static'))
    policy = allowed(ROOT / 'config' / 'sros2_policy.xml')
    assert set(policy) == set(done)
    for node, rights in policy.items():
        assert rights == done[node], node
