"""Messages of sensors by their fields, as the anchors take them."""

from types import SimpleNamespace

import numpy as np


def scan(ranges, **changes):
    return SimpleNamespace(**{
        'ranges': np.array(ranges, np.float32), 'angle_min': -0.5, 'angle_increment': 0.5,
        'range_min': 0.1, 'range_max': 8.0, **changes})


def cloud(records, **changes):
    data = np.ascontiguousarray(records)
    fields = [SimpleNamespace(name=name, offset=data.dtype.fields[name][1],
                              datatype={'f4': 7, 'f8': 8, 'u4': 6}[data.dtype[name].str[1:]])
              for name in data.dtype.names]
    height, width = data.shape if data.ndim == 2 else (1, data.size)
    return SimpleNamespace(**{
        'fields': fields, 'height': height, 'width': width, 'is_bigendian': False,
        'point_step': data.itemsize, 'row_step': width * data.itemsize, 'data': data.tobytes(),
        **changes})


def sonar(**changes):
    return SimpleNamespace(**{'radiation_type': 0, 'field_of_view': 0.4, 'min_range': 0.1,
                              'max_range': 5.0, 'range': 1.0, **changes})


def stamped(message):
    stamp = SimpleNamespace(sec=0, nanosec=0)
    message.header = SimpleNamespace(stamp=stamp, frame_id='sensor')
    return message
