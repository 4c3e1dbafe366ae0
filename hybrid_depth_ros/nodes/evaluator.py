"""The evaluator node: scores depth images against true depth while both come."""

if __name__ == '__main__':  # before imports that take seconds
    from hybrid_depth_ros.interrupts import begin_node
    begin_node()

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from hybrid_depth_ros.compressed_depth import compressed_to_depth
from hybrid_depth_ros.encodings import image_to_depth
from hybrid_depth_ros.errors import explain
from hybrid_depth_ros.files import check_writable, expand_user, result_file
from hybrid_depth_ros.metrics import RecordingScores, unit_warning
from hybrid_depth_ros.nodes.shared.parameters import (
    RefusalMessages,
    declare_parameters,
    parameter,
    settings_of,
)
from hybrid_depth_ros.nodes.shared.run_node import run_node
from hybrid_depth_ros.nodes.shared.subscription import AdaptiveSubscription, transport_topic
from hybrid_depth_ros.nodes.shared.timers import create_steady_timer
from hybrid_depth_ros.recordings.registration import register_depth
from hybrid_depth_ros.recordings.time_synchronizer import SLOP, TimeSynchronizer
from hybrid_depth_ros.stamps import stamp_of


@dataclass(frozen=True)
class EvaluatorSettings:
    """The evaluator node's parameters."""

    slop: float = parameter(
        SLOP * 1000, 'most that the stamps of two frames of one moment may differ',
        range=(0.0, 10000.0), unit='ms')
    json: str = parameter('', 'file that the figures are written to at the end; empty: none')


SETTINGS = settings_of(EvaluatorSettings)
QUEUE = 100  # messages of a topic that wait while others are scored


class EvaluatorNode(RefusalMessages, Node):
    """Subscribes ``depth/image`` and ``depth_ground_truth``; publishes ``/diagnostics``.

    Where nobody publishes one of them, its ``compressedDepth`` is listened to instead.
    Frames are paired and scored as ``evaluate_bag --predicted`` does it. True depth is taken to be
    registered to the prediction: that of another resolution is scaled to it, that of another shape
    is left out. ``scores`` has what was found so far.

    Args:
        options: Of rclpy's node.

    Raises:
        OSError: Where `json` can't be written.
        ValueError: For a parameter that will not do.
    """

    settings = SETTINGS

    def __init__(self, **options: Any) -> None:
        super().__init__('evaluator_node', **options)
        settings = declare_parameters(self, EvaluatorSettings)
        self._json = settings.json and expand_user(settings.json)
        if self._json:
            check_writable(self._json)
        self.scores, self._damaged, self._problem = RecordingScores(), 0, ''
        self._pairing: TimeSynchronizer[Image | CompressedImage] = TimeSynchronizer(
            round(settings.slop * 1e6))
        self._inputs = [
            (AdaptiveSubscription(self, Image, topic, partial(self._take, side), QUEUE),
             AdaptiveSubscription(
                 self, CompressedImage, transport_topic(self, topic, 'compressedDepth'),
                 partial(self._take, side), QUEUE))
            for side, topic in enumerate(('depth/image', 'depth_ground_truth'))]
        self._topics = [raw.topic for raw, _ in self._inputs]
        self._warned: set[str] = set()
        self._update_subscriptions()
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # rclpy has no event for publishers of a topic that isn't subscribed, as the compressed one
        create_steady_timer(self, 0.2, self._update_subscriptions)
        create_steady_timer(self, 1.0, self._publish_diagnostics)
        self.get_logger().info(f'comparing {" with ".join(self._topics)}')

    def _update_subscriptions(self) -> None:
        for raw, compressed in self._inputs:
            raw.update()
            compressed.update(bool(self.count_publishers(compressed.topic)
                                   and not self.count_publishers(raw.topic)))

    def _take(self, side: int, message: Image | CompressedImage) -> None:
        if stamp := stamp_of(message.header):
            self._score(self._pairing.add(side, stamp, message))
        else:
            self._skip_pair(f'{self._topics[side]}: the headers carry no stamp: have its driver '
                            'fill them')

    def _skip_pair(self, why: object) -> None:
        self._damaged += 1
        self._problem = f'pairs are left out: {why}'
        if self._damaged == 1:
            self.get_logger().warning(self._problem)

    def _warn_once(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self.get_logger().warning(text)

    def _score(self, pairs: Iterable[tuple[Any, ...]]) -> None:
        for _, *messages in pairs:
            try:
                depth, truth = map(self._depth, self._topics, messages)
                registered = register_depth(truth, *depth.shape[::-1])
            except ValueError as error:
                self._skip_pair(error)
                continue
            if truth.shape != depth.shape:
                self._warn_once(
                    'size', f'{self._topics[1]} ({truth.shape[1]}×{truth.shape[0]}) is taken to be '
                    f'registered to {self._topics[0]} ({depth.shape[1]}×{depth.shape[0]}), and is '
                    'scaled to it')
            for topic, array in zip(self._topics, (depth, truth)):
                if doubt := unit_warning(array):
                    self._warn_once(topic, f'{topic}: {doubt}')
            self.scores.add(depth, registered)

    @staticmethod
    def _depth(topic: str, message: Image | CompressedImage) -> npt.NDArray[np.float32]:
        try:
            return (compressed_to_depth if isinstance(message, CompressedImage) else
                    image_to_depth)(message)
        except ValueError as error:
            raise ValueError(f'{topic}: {error}') from error

    def _publish_diagnostics(self) -> None:
        report = self.scores.report()
        silent = [raw.topic for raw, compressed in self._inputs
                  if not self.count_publishers(raw.topic) + self.count_publishers(compressed.topic)]
        level, text = (
            (DiagnosticStatus.OK, 'scoring') if report['frames'] else
            (DiagnosticStatus.WARN, self._problem) if self._problem else
            (DiagnosticStatus.WARN, f'nobody publishes {" and ".join(silent)}: remap depth/image '
             'and depth_ground_truth to topics of yours') if silent else
            (DiagnosticStatus.WARN, 'no two frames of one moment have come: raise slop'))
        values = {'frames': report['frames'], 'pixels': report['pixels'], **report['metrics'],
                  'unpaired': self._pairing.unpaired, 'waiting': self._pairing.waiting,
                  'damaged': self._damaged}
        message = DiagnosticArray(status=[DiagnosticStatus(
            level=level, name=f'{self.get_fully_qualified_name()}: errors', message=text,
            values=[KeyValue(key=key, value=f'{value:.4f}' if isinstance(value, float) else
                             '–' if value is None else str(value))
                    for key, value in values.items()])])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def destroy_node(self) -> None:
        """Score what still waits, write `json`, print the table."""
        self._score(self._pairing.finish())
        try:
            if self._json:
                with result_file(self._json) as file:
                    file.write_text(json.dumps(
                        {**self.scores.report(), 'damaged': self._damaged,
                         'seen': self._topics[0], 'truth': self._topics[1]}, indent=2) + '\n')
        except OSError as error:
            print(f'evaluator_node: {explain(error)}', file=sys.stderr, flush=True)
        print(self.scores.table(), flush=True)
        if self._pairing.unpaired:
            print(f'{self._pairing.unpaired} frames found no partner within slop', flush=True)
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit status."""
    return run_node('evaluator_node', EvaluatorNode, args)


if __name__ == '__main__':
    sys.exit(main())
