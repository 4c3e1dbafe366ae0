"""Draw nodes (ellipses) and topics (boxes) as rqt_graph does: ``python docs/node_graph.py``."""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, ROW = 1060, 520, 46
# what is drawn: name → (column's middle, row); nodes first
NODES = {'camera_node': (95, 3), 'robot sensors, TF': (95, 6.6), 'depth_node': (490, 3.5),
         'rviz2': (955, 1), 'viewer_node': (955, 3), 'nav2, RTAB-Map': (955, 5),
         'evaluator_node': (955, 7)}
TOPICS = {'image_raw': (290, 1.6), 'camera_info': (290, 2.6), 'depth_ground_truth': (290, 7.6),
          'anchors/scan': (290, 4.6), 'anchors/points': (290, 5.6), 'anchors/range': (290, 6.6),
          'depth/image': (710, 1.2), 'depth/camera_info': (710, 2.2), 'depth/points': (710, 3.2),
          'depth/anchors': (710, 4.2), 'depth/uncertainty': (710, 5.2),
          'depth/relative': (710, 6.2), 'depth/obstacles': (710, 7.2), 'depth/scan': (710, 8.2),
          '/diagnostics': (710, 9.2)}
ARROWS = (
    ('camera_node', 'image_raw'), ('camera_node', 'camera_info'),
    ('camera_node', 'depth_ground_truth'), ('robot sensors, TF', 'anchors/scan'),
    ('robot sensors, TF', 'anchors/points'), ('robot sensors, TF', 'anchors/range'),
    ('image_raw', 'depth_node'), ('camera_info', 'depth_node'), ('anchors/scan', 'depth_node'),
    ('anchors/points', 'depth_node'), ('anchors/range', 'depth_node'),
    ('depth_node', 'depth/image'), ('depth_node', 'depth/camera_info'),
    ('depth_node', 'depth/points'), ('depth_node', 'depth/anchors'),
    ('depth_node', 'depth/uncertainty'), ('depth_node', 'depth/relative'),
    ('depth_node', 'depth/obstacles'), ('depth_node', 'depth/scan'), ('depth_node', '/diagnostics'),
    ('depth/obstacles', 'nav2, RTAB-Map'), ('depth/scan', 'nav2, RTAB-Map'),
    ('depth/image', 'rviz2'), ('depth/points', 'rviz2'), ('depth/image', 'viewer_node'),
    ('depth/points', 'viewer_node'), ('depth/anchors', 'viewer_node'),
    ('depth/points', 'nav2, RTAB-Map'), ('depth/image', 'nav2, RTAB-Map'),
    ('depth/camera_info', 'nav2, RTAB-Map'), ('depth/image', 'evaluator_node'),
    ('depth_ground_truth', 'evaluator_node'))
HALF = {**dict.fromkeys(NODES, 78), **dict.fromkeys(TOPICS, 80)}


def place(name):
    column, row = (NODES | TOPICS)[name]
    return column, 14 + row * ROW


def arrow(start, end):
    (x1, y1), (x2, y2) = place(start), place(end)
    x1, x2 = x1 + HALF[start], x2 - HALF[end] - 6
    bend = (x2 - x1) / 2
    return (f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" '
            'fill="none" stroke="#678" marker-end="url(#tip)"/>')


def label(name, shape):
    x, y = place(name)
    return f'{shape}<text x="{x}" y="{y + 5}" text-anchor="middle">{escape(name)}</text>'


def svg():
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#678"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(arrow(*pair) for pair in ARROWS)]
    for name in NODES:
        x, y = place(name)
        parts.append(label(name, f'<ellipse cx="{x}" cy="{y}" rx="78" ry="20" fill="#dceaf7" '
                                 'stroke="#357"/>'))
    for name in TOPICS:
        x, y = place(name)
        parts.append(label(name, f'<rect x="{x - 80}" y="{y - 16}" width="160" height="32" '
                                 'fill="#f4f1e4" stroke="#875"/>'))
    return '\n'.join([*parts, '</svg>', ''])


if __name__ == '__main__':
    Path(__file__).with_name('nodes_and_topics.svg').write_text(svg())
