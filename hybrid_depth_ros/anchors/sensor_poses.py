"""Where a camera's sensors are when they measure: given, looked up, or carried on by odometry."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.floor import down_from_pitch
from hybrid_depth_ros.anchors.source import WITHOUT_POSE, AnchorSource, source_kind
from hybrid_depth_ros.anchors.types import AnchorSettings, ImageInfo
from hybrid_depth_ros.poses import PlacedPose, Pose

# (frame and stamp of the image, frame and stamp of the measurement) → pose of the second in the
# first; names and ns.
PoseLookup = Callable[[str, int, str, int], PlacedPose]


class SensorPoses:
    """Poses of sensors in the optical frame.

    Args:
        lookup: for sources whose pose is None; it raises LookupError with a sentence. None: such a
            pose is not known.
        odometry: the source that says how the camera moves between stamps, or None.
    """

    def __init__(self, lookup: PoseLookup | None, odometry: AnchorSource | None) -> None:
        self._lookup, self._odometry = lookup, odometry

    def looked_up(self, source: AnchorSource, image: ImageInfo, frame: str, stamp: int) -> Pose:
        """The pose of a frame at a stamp (ns), in the image's frame at the image's stamp.

        Notes and warnings go to `source`.
        """
        if self._lookup is None:
            raise LookupError(f'no pose of {frame} is known: give one')
        pose, note, warning = self._lookup(image.frame, image.stamp, frame, stamp)
        source.note = note or source.note
        source.warn(warning)
        return pose

    def of_sensor(self, source: AnchorSource, image: ImageInfo, frame: str, stamp: int) -> Pose:
        """The pose of a sensor at its stamp (ns), in the image's frame at the image's stamp."""
        if source.pose is None:
            return self.looked_up(source, image, frame, stamp)
        odometry = self._odometry
        try:
            if odometry is None or not odometry.received:
                return self.looked_up(source, image, image.frame, stamp) @ source.pose
            now, then = (self.camera_by_odometry(odometry, image, moment)
                         for moment in (image.stamp, stamp))
            return np.linalg.inv(now) @ then @ source.pose
        except LookupError as error:
            if odometry is not None and odometry.received:
                source.warn(f'it is taken as if the robot stood: {sentence(error)}')
            return source.pose

    def camera_by_odometry(self, odometry: AnchorSource, image: ImageInfo, stamp: int) -> Pose:
        """The camera's pose in odometry's frame at a stamp (ns)."""
        pose, frame = odometry.pose_at(stamp)
        if odometry.pose is not None:
            return pose @ np.linalg.inv(odometry.pose)
        if frame.lstrip('/') == image.frame.lstrip('/'):
            return pose
        return pose @ np.linalg.inv(self.looked_up(odometry, image, frame, image.stamp))


def camera_above_floor(image_frame: str, settings: AnchorSettings, floor_pose: Callable[[], Pose]
                       ) -> tuple[float, npt.NDArray[np.floating]]:
    """The camera's height in metres, and gravity's unit vector in the optical frame.

    Args:
        image_frame: The optical frame's name.
        settings: Which may give both.
        floor_pose: Of ``floor_frame`` in the optical frame, 4×4, asked for where they don't.

    Raises:
        LookupError: A sentence, where neither tells.
    """
    if settings.camera_height > 0:
        return (settings.camera_height,
                down_from_pitch(settings.camera_pitch, settings.camera_roll))
    pose = floor_pose()
    down, origin = -pose[:3, 2], pose[:3, 3]  # z of the floor's frame points up
    height = float(down @ origin)
    if not height > 0.01:
        raise LookupError(f'{image_frame} is {height:.2f} m above {settings.floor_frame}: '
                          'that is no camera above a floor; see floor_frame, or set '
                          'camera_height')
    return height, down


def pose_of_each(names: Sequence[str], poses: Sequence[Pose | None]) -> list[Pose | None]:
    """The pose of each source, of poses that are one for all or do without the floor's."""
    sensors = [name for name in names if source_kind(name) not in WITHOUT_POSE]
    if len(poses) not in (1, len(sensors), len(names)):
        raise ValueError(f'there are {len(poses)} poses for {len(sensors)} sensors '
                         f'({", ".join(sensors)}): give one for all, or one for each')
    if len(set(names)) != len(names):
        raise ValueError(f'anchors is {list(names)}; name each source once')
    if len(poses) == 1:
        return list(poses) * len(names)
    if len(poses) == len(sensors):
        by_name = dict(zip(sensors, poses))
        return [by_name.get(name) for name in names]
    return list(poses)


def sentence(error: Exception) -> str:
    """What an error says, on one line."""
    return ' '.join(str(error.args[0] if error.args else error).split())
