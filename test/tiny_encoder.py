"""An encoder so small that a training step takes a tenth of the time.

``python tiny_encoder.py ARGUMENTS`` is ``python -m train.nyu ARGUMENTS`` with ``encoder: tiny``.
"""

if __name__ == '__main__':  # before imports that take seconds, as train.nyu does it
    from hybrid_depth_ros.interrupts import begin_command
    begin_command()

import runpy

from hybrid_depth_ros.network import ENCODERS

TINY = ('test_efficientnet', 32)  # timm's name, channels of the decoder

if __name__ == '__main__':
    ENCODERS['tiny'] = TINY
    runpy.run_module('train.nyu', run_name='__main__', alter_sys=True)
