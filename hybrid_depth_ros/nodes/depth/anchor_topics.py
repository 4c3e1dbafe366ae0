"""The anchors of one camera of the depth node: their topics, their poses, what people see."""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import LaserScan, PointCloud2, Range

from hybrid_depth_ros.anchors.corrector import AnchorCorrector, ImageInfo
from hybrid_depth_ros.nodes.depth.settings import anchor_settings, check_anchors
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription
from hybrid_depth_ros.point_cloud import POINT, pack_rgb
from hybrid_depth_ros.stamps import stamp_of
from hybrid_depth_ros.visualization import residual_colours

MESSAGES = {'scan': LaserScan, 'points': PointCloud2, 'range': Range}
GOOD = 50        # frames without trouble before the same trouble is told again
KEPT = 5         # messages that wait while the executor is busy
LONGEST = 400    # characters of a trouble: a frame_id may be a megabyte


class AnchorTopics:
    """``anchors/scan`` and so on, in the namespace `prefix`, and the depth that they correct.

    settings: the node's, by name. transforms: Transforms, asked where no pose is fixed.
    complain: called with a key and a text, to log it.
    """

    def __init__(self, node, prefix, settings, transforms, complain):
        names, poses = check_anchors(settings)
        self._transforms, self._complain = transforms, complain
        self._corrector = AnchorCorrector(names, poses, transforms.pose)
        self.listeners = {
            name: AdaptiveSubscription(
                node, MESSAGES[source.kind], f'{prefix}anchors/{name}',
                lambda message, name=name: self._corrector.take(name, message), KEPT)
            for name, source in self._corrector.sources.items() if source.kind in MESSAGES}
        if any(source.pose is None and source.kind != 'floor'
               for source in self._corrector.sources.values()) or (
                   'floor' in names and not settings['camera_height']):
            transforms.listen()
        self.reset()

    def reset(self):
        """Forget measurements and figures."""
        self._corrector.reset()
        self._told, self._good = {}, {}
        self._counted, self._seconds = (time.monotonic(), {}), 0.0

    def correct(self, depth, frame, settings, relative=False):
        """Depth of a Frame, corrected where anchors or smoothing are asked for.

        relative: it is inverse depth, and no metres yet; raises LookupError where no anchor makes
        metres of it.
        """
        if not self._corrector.sources and not settings['temporal_smoothing'] and not relative:
            return depth
        start = time.perf_counter()
        image = ImageInfo(stamp_of(frame.header), frame.header.frame_id, frame.intrinsics)
        try:
            depth = self._corrector.correct(depth, image, anchor_settings(settings), relative).depth
        except LookupError as error:
            told = '; '.join(f'anchors/{name}: {self._trouble(source)}'
                             for name, source in self._corrector.sources.items() if source.trouble)
            raise LookupError(f'{error.args[0]}{f" ({told})" if told else ""}') from error
        self._seconds = time.perf_counter() - start
        for name, source in self._corrector.sources.items():
            self._good[name] = 0 if source.trouble else self._good.get(name, 0) + 1
            if self._good[name] >= GOOD:
                self._told.pop(name, None)
            elif source.trouble and name not in self._told:
                self._told[name] = True
                self._complain(f'anchors/{name}', f'anchors/{name}: {self._trouble(source)}. Depth '
                               'goes on without')
        return depth

    def cloud(self, intrinsics):
        """The last frame's anchors as one row of points in the optical frame, coloured by how well
        they fit; None where there were none."""
        last = self._corrector.last
        if last is None or intrinsics is None or not len(last.anchors):
            return None
        anchors = last.anchors
        points = np.zeros((1, len(anchors)), POINT)
        points['x'] = (anchors.u - intrinsics.cx) / intrinsics.fx * anchors.depth
        points['y'] = (anchors.v - intrinsics.cy) / intrinsics.fy * anchors.depth
        points['z'] = anchors.depth
        points['rgb'] = pack_rgb(residual_colours(last.completion.residuals))
        return points

    def _trouble(self, source):
        listener = self.listeners.get(source.name)
        if listener and not source.received:
            return f'nothing came on {listener.topic}'
        return source.trouble[:LONGEST]

    def judge(self):
        """Level and message for the status: (OK, '') where there is nothing to say."""
        sources = self._corrector.sources
        told = [f'anchors/{name}: {self._trouble(source)}' for name, source in sources.items()
                if source.trouble]
        if told:
            return DiagnosticStatus.WARN, '; '.join(told) + '. Depth goes on without'
        for name, (right, down) in self._corrector.misaligned().items():
            return DiagnosticStatus.WARN, (
                f'anchors/{name}: they fit the picture better {_shifted(right, "right", "left")}'
                f'{_shifted(down, "down", "up")}: check the pose of its sensor and of the camera')
        return DiagnosticStatus.OK, ''

    def values(self):
        """What /diagnostics shows, by name."""
        if not self._corrector.sources and self._corrector.last is None:
            return {}
        last, now = self._corrector.last, time.monotonic()
        then, before = self._counted
        values = {}
        for name, source in self._corrector.sources.items():
            rate = (source.received - before.get(name, 0)) / max(now - then, 1e-3)
            said = source.trouble or source.note
            values[f'anchors/{name}'] = (
                f'{source.used} used, {source.rejected} rejected'
                + (f', {rate:.1f} Hz' if name in self.listeners else '')
                + (f', {said[:LONGEST]}' if said else ''))
        self._counted = (now, {name: s.received for name, s in self._corrector.sources.items()})
        if last is not None:
            result = last.completion
            values['anchored scale'] = f'{result.scale:.3f}'
            values['anchored spread'] = f'{result.spread:.3f}'
            values['anchored in (ms)'] = f'{self._seconds * 1e3:.1f}'
        if last is not None and (fit := last.scale_shift):
            values['metres by'] = f'1 / ({fit.scale:.4g} · relative + {fit.shift:.4g})'
        return values


def _shifted(share, ahead, behind):
    return f' {abs(share):.0%} of its width {ahead if share > 0 else behind}' if share else ''
