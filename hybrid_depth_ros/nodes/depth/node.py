"""The depth node: camera topics in, depth images and point clouds out."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from hybrid_depth_ros.errors import explain, reason
from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.nodes.depth.camera_stream import CameraStream, InputFrame
from hybrid_depth_ros.nodes.depth.network_loader import NetworkLoader
from hybrid_depth_ros.nodes.depth.running_network import RunningNetwork
from hybrid_depth_ros.nodes.depth.settings import (
    SETTINGS,
    DepthSettings,
    NetworkSettings,
    check_anchors,
    check_cameras,
    check_network,
    check_ranges,
)
from hybrid_depth_ros.nodes.depth.snapshot import SNAPSHOT_TIMEOUT, Snapshot
from hybrid_depth_ros.nodes.shared.parameters import RefusalMessages, declare_parameters
from hybrid_depth_ros.nodes.shared.run_node import SHUTDOWN_TIMEOUT, run_node
from hybrid_depth_ros.nodes.shared.timers import create_steady_timer
from hybrid_depth_ros.nodes.shared.transforms import TransformLookup
from hybrid_depth_ros.predictor import DepthEstimator, DepthPredictor, Prediction, free_memory

DIAGNOSTICS_INTERVAL = 1.0  # seconds
NETWORK_PARAMETERS = tuple(field.name for field in fields(NetworkSettings))
Frames = list[tuple[CameraStream, InputFrame]]


def resident_megabytes() -> float:
    """Return the memory that this process holds."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


class DepthNode(RefusalMessages, LifecycleNode):
    """Subscribes ``image`` (or ``image/compressed``) and ``camera_info``; publishes
    ``depth/image``, ``depth/camera_info``, ``depth/points``, ``depth/obstacles``, ``depth/scan``,
    ``depth/uncertainty`` and ``/diagnostics``.

    A managed node (design.ros2.org/articles/node_lifecycle.html): configure loads the weights
    and warms up, activate listens, deactivate ends the frame at hand, cleanup frees the memory.
    Several ``cameras`` share the network: what is fresh goes through it in one batch.

    Stamp and frame_id are the image's. The newest frame wins: it waits in a mailbox of one
    for the thread that runs the network and sends depth. A second thread makes and sends the
    clouds, all of them, meanwhile and while the network sees the next frame. A third loads other
    weights that a parameter names. ``exit_status`` is None, or 1 where ``autostart`` failed.

    Args:
        predictor: Used instead of the one that the parameters name; None: that one.
        options: Of rclpy's node.

    Raises:
        ValueError: For a parameter that will not do.
    """

    settings = SETTINGS

    def __init__(self, predictor: DepthEstimator | None = None, **options: Any) -> None:
        super().__init__('depth_node', **options)
        self._settings = declare_parameters(self, DepthSettings)
        check_cameras(self._settings.cameras)
        check_ranges(self._settings)
        check_anchors(self._settings)
        self._stand_in = predictor
        self._network: RunningNetwork | None = None
        self._loader = NetworkLoader[DepthEstimator](
            self._load, self._swap_network, self._keep_network)
        self._load_failure = ''
        self._reverted: tuple[Parameter, ...] = ()  # to what still runs
        self._state, self._reason = 'unconfigured', ''
        self.add_on_set_parameters_callback(self._on_set_parameters)

        self._arrived = threading.Condition()
        self._worker: threading.Thread | None = None
        self._sent: Future[None] | None = None  # the last batch's clouds
        self._closing, self._snapshot_pending = False, False
        self._transforms = TransformLookup(self)
        self._transforms.fixed_frame = self._settings.fixed_frame
        self._cameras = [
            CameraStream(self, name, lambda: self._settings, self._arrived, self._transforms)
            for name in self._settings.cameras]
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # a group of its own: while it waits for frames, the others must go on
        self.create_service(Trigger, '~/snapshot', self._take_snapshot,
                            callback_group=MutuallyExclusiveCallbackGroup())
        create_steady_timer(self, DIAGNOSTICS_INTERVAL, self._publish_diagnostics)
        self.exit_status: int | None = None
        if self._settings.autostart:
            self._start()

    # --- lifecycle --------------------------------------------------------------------

    def _start(self) -> None:
        good = TransitionCallbackReturn.SUCCESS
        if self.trigger_configure() != good or self.trigger_activate() != good:
            self.exit_status = 1 if self.context.ok() else 0

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network; where that fails, the log and /diagnostics say why."""
        try:
            self._network = RunningNetwork(self._stand_in or self._load(self._settings),
                                           self._settings.network)
        except Exception as error:  # rclpy would swallow it
            if not self.context.ok():  # told to end meanwhile
                return TransitionCallbackReturn.FAILURE
            self._reason = f'cannot configure: {explain(error)}'
            self.get_logger().error(self._reason)
            return TransitionCallbackReturn.FAILURE
        self._state, self._reason, self._load_failure = 'inactive', '', ''
        return TransitionCallbackReturn.SUCCESS

    def _load(self, settings: DepthSettings) -> DepthEstimator:
        predictor = DepthPredictor(
            settings.weights, settings.device, settings.precision, runtime=settings.runtime,
            relative=settings.gives_metres or settings.relative_depth,
            log=self.get_logger().info, warn=self.get_logger().warning)
        for note in predictor.model.notes:
            self.get_logger().warning(note)
        predictor.predict(np.zeros((480, 640, 3), np.uint8),
                          options=settings.prediction_options(sigma=False))
        self.get_logger().info(f'runtime {predictor.reason}')
        return predictor

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the network's thread and listen."""
        for camera in self._cameras:
            camera.reset()
        self._closing = False
        self._worker = threading.Thread(target=self._run_network, name='depth', daemon=True)
        self._worker.start()
        self._state = 'active'
        for camera in self._cameras:
            camera.set_active(True)
        self.get_logger().info(
            f'weights {self._settings.weights}, listening to '
            + ', '.join(camera.topic for camera in self._cameras))
        return TransitionCallbackReturn.SUCCESS

    def _stop(self, timeout: float | None = None) -> None:
        """Leave the image topics and end both threads, with the frames at hand sent.

        Args:
            timeout: Seconds after which a thread is left that is still at work; None: as it takes.
        """
        self._state = 'inactive'
        for camera in self._cameras:
            camera.set_active(False)
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        if self._worker:
            self._worker.join(timeout)
            self._worker = None

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the topics, once the frames at hand are sent."""
        self._stop()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network's memory."""
        self._loader.cancel()
        self._network, self._state = None, 'unconfigured'
        free_memory()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave everything for good."""
        self._stop()
        self._loader.cancel()
        for camera in self._cameras:
            camera.close()
        self._network, self._state = None, 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the threads, though not a network that is at work for long."""
        self._loader.cancel()
        self._stop(SHUTDOWN_TIMEOUT)
        super().destroy_node()

    # --- parameters -------------------------------------------------------------------

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Take new values at once; a network that they name is loaded while the old one goes on."""
        known = {setting.name for setting in SETTINGS}
        changes = {p.name: p.value for p in parameters if p.name in known}
        settings = replace(self._settings, **changes)
        try:
            check_ranges(settings)
            if any(name in NETWORK_PARAMETERS for name in changes):
                check_network(settings.network)
        except (OSError, ValueError) as error:
            return SetParametersResult(successful=False, reason=explain(error))
        self._settings = settings
        self._transforms.fixed_frame = settings.fixed_frame
        if self._network and (self._loader.weights or
                              settings.network != self._network.settings):
            self._load_failure = ''
            self._loader.request(settings)
        return SetParametersResult(successful=True)

    def _swap_network(self, settings: DepthSettings, predictor: DepthEstimator) -> None:
        """From here on, frames go through this network."""
        self._network = RunningNetwork(predictor, settings.network)
        free_memory()
        self.get_logger().info(f'weights {settings.weights} from here on')

    def _keep_network(self, settings: DepthSettings, why: str) -> None:
        """What was asked for could not be loaded: say so, and show the parameters that count."""
        if not self._network:
            return
        before = self._network.settings
        self._load_failure = (f'weights {settings.weights} could not be loaded: {why}. '
                              f'{before.weights} goes on')
        self.get_logger().error(self._load_failure)
        self._reverted = tuple(
            Parameter(name, value=value) for name, value in asdict(before).items())

    def _show_running_parameters(self) -> None:
        """Set the parameters of a network that could not be loaded back to the running one's."""
        reverted, self._reverted = self._reverted, ()
        if reverted and self._network and not self._loader.weights:
            self.set_parameters(list(reverted))

    # --- the network's thread, and the one that sends ---------------------------------

    def _run_network(self) -> None:
        self._sent = None
        with ThreadPoolExecutor(1, 'messages') as self._sender:  # ends when all is sent
            while True:
                with self._arrived:
                    self._arrived.wait_for(
                        lambda: self._closing or any(camera.has_image for camera in self._cameras))
                    if self._closing:
                        return
                settings = self._settings
                frames = []
                for camera in self._cameras:
                    try:
                        frame = camera.next_frame(settings)
                    except Exception as error:  # the node outlives whatever one frame does
                        self._skip(camera, error)
                        continue
                    if frame:
                        frames.append((camera, frame))
                try:
                    if frames:
                        self._process(frames, settings)
                except Exception as error:  # as of topics that are gone when it is told to end
                    for camera, _ in frames:
                        self._skip(camera, error)

    def _process(self, frames: Frames, settings: DepthSettings) -> None:
        """Put frames through the network, all at once where its memory takes them.

        What fails together is tried one by one.
        """
        network, predictions = self._network, None
        if network is None:
            return
        size = network.batch_size(len(frames))
        if len(frames) <= size:
            predictions, size = self._predict(network, frames, settings)
        if predictions:
            self._publish(network, frames, predictions, settings)
        elif len(frames) > 1:
            for first in range(0, len(frames), size):
                self._process(frames[first:first + size], settings)

    def _predict(self, network: RunningNetwork, frames: Frames, settings: DepthSettings
                 ) -> tuple[list[Prediction] | None, int]:
        """Predictions; or None, and how many frames are to be tried at once.

        Where memory runs out, batches are halved until they fit.
        """
        count, predictor = len(frames), network.predictor
        try:
            images = [frame.scene for _, frame in frames]
            focals = [frame.intrinsics.fx if frame.intrinsics else None for _, frame in frames]
            sigma = any(camera.wants_sigma(settings) for camera, _ in frames)
            predictions = predictor.predict(images, focals, settings.prediction_options(sigma))
            return [prediction.padded(frame.border)
                    for prediction, (_, frame) in zip(predictions, frames)], count
        except Exception as error:
            if count == 1:
                self._skip(frames[0][0], error)
            short = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
        if count == 1 or not short:
            return None, 1
        # out here, where the error's traceback no longer holds memory
        free_memory()
        smaller, news = network.halve(count)
        if news:  # not each minute
            self.get_logger().warning(
                f'{predictor.device} has no memory for {count} images at once: at most {smaller} '
                'from here on; more are tried again each minute')
        return None, smaller

    def _publish(self, network: RunningNetwork, frames: Frames, predictions: list[Prediction],
                 settings: DepthSettings) -> None:
        """Make depths agree with anchors and send them; their clouds in the other thread."""
        predictor = network.predictor
        for (camera, frame), prediction in zip(frames, predictions):
            if frame.rectification:
                prediction.depth[frame.rectification.unseen] = np.nan
            if prediction.metric:
                prediction.multiply(camera.scale.apply(
                    prediction.depth, network.settings.weights, frame.intrinsics))
        depths = [prediction.depth for prediction in predictions]
        if predictor.relative:
            for (camera, frame), depth in zip(frames, depths):
                camera.publish_relative(frame, depth)
        metres: list[Prediction | None]
        if predictor.relative and not settings.gives_metres:
            metres = [None] * len(frames)
        else:
            corrected = [camera.correct_by_anchors(frame, depth, settings, predictor.relative)
                      for (camera, frame), depth in zip(frames, depths)]
            metres = []
            for (camera, frame), done, prediction in zip(frames, corrected, predictions):
                if done is not None:
                    sigma = (camera.apply_sigma(frame, done, prediction.depth, prediction.sigma,
                                                settings)
                             if prediction.metric and camera.wants_sigma(settings) else None)
                    metres.append(Prediction(done, True, sigma))
            frames = [frame for frame, done in zip(frames, corrected) if done is not None]
        if self._sent:
            self._sent.result()  # one batch waits at most
        self._sent = self._sender.submit(
            self._send, CameraStream.publish_cloud, frames, metres, settings)
        self._send(CameraStream.publish_depth, frames, metres, settings)

    def _send(self, publish: Callable[..., None], frames: Frames,
              metres: Sequence[Prediction | None], settings: DepthSettings) -> None:
        for (camera, frame), prediction in zip(frames, metres):
            try:
                publish(camera, frame, prediction, settings)
            except Exception as error:
                self._skip(camera, error)

    def _skip(self, camera: CameraStream, error: BaseException) -> None:
        if not self._closing and self.context.ok():
            camera.skip(error)

    # --- what people see --------------------------------------------------------------

    async def _take_snapshot(self, request: Trigger.Request, response: Trigger.Response
                             ) -> Trigger.Response:
        if self._state != 'active' or self._snapshot_pending:
            response.message = (
                'another snapshot is being taken: call again' if self._snapshot_pending else
                f'the node is {self._state}: activate it first')
            return response
        try:
            folder = expand_user(self._settings.snapshot_folder) / time.strftime(
                f'%Y-%m-%d_%H.%M.%S.{time.time_ns() // 1_000_000 % 1000:03}')
        except OSError as error:  # ~somebody who is not known here
            response.message = f'snapshot_folder is {reason(error)}'
            return response
        snapshot = Snapshot({camera.name: camera.topic for camera in self._cameras}, folder)
        timeout = create_steady_timer(self, SNAPSHOT_TIMEOUT, snapshot.give_up)
        self._snapshot_pending = True
        for camera in self._cameras:
            camera.request_snapshot(partial(snapshot.take, camera.name))
        try:
            response.success, response.message = await snapshot.done
        finally:
            self.destroy_timer(timeout)
            for camera in self._cameras:
                camera.request_snapshot(None)
            self._snapshot_pending = False
        return response

    def _publish_diagnostics(self) -> None:
        self._show_running_parameters()
        loading = self._loader.weights
        own = {
            'state': self._state,
            'weights': (self._network.settings if self._network else self._settings).weights,
            'device': self._network.predictor.device if self._network else 'none',
            **({'loading': loading} if loading else {}),
            'memory (MB)': f'{resident_megabytes():.0f}',
        }
        statuses = [camera.status(self._settings) for camera in self._cameras]
        for status in statuses:
            status.values += [KeyValue(key=key, value=value) for key, value in own.items()]
            if self._state != 'active':
                status.level = DiagnosticStatus.ERROR if self._reason else DiagnosticStatus.STALE
                status.message = self._reason or self._state
            elif self._load_failure and status.level == DiagnosticStatus.OK:
                status.level, status.message = DiagnosticStatus.WARN, self._load_failure
            elif self._load_failure:
                status.message += f'; {self._load_failure}'
            elif loading:
                status.message += f'; weights {loading} are being loaded meanwhile'
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)


def main(args: Sequence[str] | None = None, predictor: DepthEstimator | None = None) -> int:
    """Run the node until it is told to stop; returns the exit status."""
    return run_node('depth_node', lambda: DepthNode(predictor), args)
