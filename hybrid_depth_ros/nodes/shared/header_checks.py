"""What is wrong with a header: a clock that isn't this node's, a frame that nobody can find."""

from typing import Any

from hybrid_depth_ros.stamps import stamp_of

CLOCK_AHEAD = 0.5  # seconds that clocks of two machines may differ unnoticed
CLOCK_BEHIND = 60.0  # seconds: no frame is on its way for so long
EPOCH = 1_000_000_000  # seconds: no clock that was ever set shows less (2001)


def stamp_warning(header: Any, now: int, simulated: bool = False) -> str:
    """Say which clock a stamp must be of, and the mend; empty where it can be this node's.

    Args:
        header: std_msgs/Header.
        now: This node's clock, ns.
        simulated: It follows /clock.
    """
    stamp, age = stamp_of(header) / 1e9, (now - stamp_of(header)) / 1e9
    if -CLOCK_AHEAD <= age <= CLOCK_BEHIND:
        return ''
    if stamp == 0:
        return ('the images carry no stamp (0): have their driver fill it, latency and pairing '
                'need it')
    if simulated and (now < EPOCH * 1e9) == (stamp < EPOCH):
        return (f"stamps are {abs(age):.1f} s {'ahead of' if age < 0 else 'behind'} /clock: see "
                'that one player or simulation alone sends it, and the images')
    if now < EPOCH * 1e9:
        return (f"stamps are {abs(age):.0f} s {'ahead of' if age < 0 else 'behind'} this node's "
                'clock, which counts from elsewhere: set use_sim_time on the camera too, or on '
                'neither')
    if stamp < EPOCH:
        return (f'stamps are of another clock ({stamp:.0f} s, since boot or of a simulation): have '
                'the driver stamp with ROS time, or set use_sim_time')
    if age < 0:
        return (f"stamps are {-age:.1f} s ahead of this node's clock: set both machines' clocks "
                '(chrony, NTP)')
    return (f"stamps are {age:.0f} s behind this node's clock: set both machines' clocks, or "
            'play the recording with --clock and set use_sim_time')


def frame_id_warning(header: Any, optical_frame: str = '') -> str:
    """Say why RViz and tf2 will not find the frame of a std_msgs/Header; empty where they can.

    Args:
        header: std_msgs/Header.
        optical_frame: The frame that transforms are published for; empty: any.
    """
    if not header.frame_id:
        return ("frame_id is empty, RViz drops the cloud: set it in the camera's driver")
    if header.frame_id.startswith('/'):
        return (f'frame_id {header.frame_id[:100]!r} begins with /, tf2 refuses it: leave the / '
                "out in the camera's driver")
    if optical_frame and header.frame_id != optical_frame:
        return (f'images have the frame_id {header.frame_id[:100]!r}, not {optical_frame!r}, so no '
                f'transform may lead there: give the launch optical_frame:={header.frame_id[:100]}')
    return ''
