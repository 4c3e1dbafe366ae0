"""Draw nodes (ellipses) and topics (boxes) as rqt_graph does: ``python docs/node_graph.py``."""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, ROW = 1200, 620, 46
# what is drawn: name → (column's middle, row); nodes first
NODES = {'camera_node': (95, 1.6), 'robot sensors, TF': (95, 6), 'depth_node': (560, 5),
         'rviz2': (1100, 1.6), 'viewer_node': (1100, 4), 'nav2, RTAB-Map': (1100, 6.6),
         'evaluator_node': (1100, 12.4)}
TOPICS = {'image_raw': (330, 1), 'camera_info': (330, 2), 'depth_ground_truth': (330, 12.4),
          'anchors/scan': (330, 4), 'anchors/points': (330, 5), 'anchors/range': (330, 6),
          'anchors/depth': (330, 7), 'anchors/depth/compressedDepth': (330, 8),
          'anchors/motion': (330, 9),
          'depth/image': (790, 0.4), 'depth/image/compressedDepth': (790, 1.4),
          'depth/image_color/compressed': (790, 2.4), 'depth/camera_info': (790, 3.4),
          'depth/points': (790, 4.4), 'depth/obstacles': (790, 5.4), 'depth/scan': (790, 6.4),
          'depth/uncertainty': (790, 7.4), 'depth/measured': (790, 8.4),
          'depth/anchors': (790, 9.4), 'depth/relative': (790, 10.4), '/diagnostics': (790, 11.4)}
ARROWS = (
    ('camera_node', 'image_raw'), ('camera_node', 'camera_info'),
    ('camera_node', 'depth_ground_truth'),
    *(('robot sensors, TF', name) for name in TOPICS if name.startswith('anchors/')),
    ('image_raw', 'depth_node'), ('camera_info', 'depth_node'),
    *((name, 'depth_node') for name in TOPICS if name.startswith('anchors/')),
    *(('depth_node', name) for name in TOPICS if TOPICS[name][0] > 500),
    ('depth/image', 'rviz2'), ('depth/points', 'rviz2'), ('depth/scan', 'rviz2'),
    ('depth/image', 'viewer_node'), ('depth/points', 'viewer_node'), ('depth/scan', 'viewer_node'),
    ('depth/uncertainty', 'viewer_node'), ('depth/anchors', 'viewer_node'),
    ('depth/image', 'nav2, RTAB-Map'), ('depth/camera_info', 'nav2, RTAB-Map'),
    ('depth/points', 'nav2, RTAB-Map'), ('depth/obstacles', 'nav2, RTAB-Map'),
    ('depth/scan', 'nav2, RTAB-Map'), ('depth/image', 'evaluator_node'),
    ('depth_ground_truth', 'evaluator_node'))
HALF = {**dict.fromkeys(NODES, 78),
        **{name: 118 if place[0] > 500 else 122 if len(name) > 20 else 80
           for name, place in TOPICS.items()}}


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
        parts.append(label(name, f'<rect x="{x - HALF[name]}" y="{y - 16}" '
                                 f'width="{2 * HALF[name]}" height="32" fill="#f4f1e4" '
                                 'stroke="#875"/>'))
    return '\n'.join([*parts, '</svg>', ''])


if __name__ == '__main__':
    Path(__file__).with_name('nodes_and_topics.svg').write_text(svg())
