"""Subscriptions that come and go, and are as reliable as their publishers."""

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

_RELIABILITIES = {'auto': None, 'reliable': QoSReliabilityPolicy.RELIABLE,
                  'best_effort': QoSReliabilityPolicy.BEST_EFFORT}


class Listener:
    """A topic, subscribed while :meth:`follow` is told so.

    Best effort would match every publisher but loses large images on the way; reliable does not
    hear a best-effort camera. So it is reliable where all publishers are; the usual QoS override
    for reliability goes before this choice. ``subscription`` is None while it doesn't listen.
    depth: messages that wait. raw: the callback gets serialised messages.
    Raises ValueError for an override that is not known.
    """

    def __init__(self, node, kind, topic, callback, depth=1, raw=False):
        self._node, self._kind, self._callback = node, kind, callback
        self.topic, self._depth, self._raw = node.resolve_topic_name(topic), depth, raw
        self._override = node.declare_parameter(
            f'qos_overrides.{self.topic}.subscription.reliability', 'auto',
            ParameterDescriptor(read_only=True, description='auto, reliable or best_effort')).value
        if self._override not in _RELIABILITIES:
            raise ValueError(f'reliability of {self.topic} is {self._override!r}; it must be one '
                             'of: ' + ', '.join(_RELIABILITIES))
        self.subscription = self._reliability = None

    def _offered(self):
        best_effort = any(
            publisher.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
            for publisher in self._node.get_publishers_info_by_topic(self.topic))
        return (QoSReliabilityPolicy.BEST_EFFORT if best_effort else
                QoSReliabilityPolicy.RELIABLE)

    def follow(self, wanted=True):
        """Subscribe, subscribe anew because the publishers have changed, or leave."""
        reliability = (_RELIABILITIES[self._override] or self._offered()) if wanted else None
        if reliability == self._reliability:
            return
        if self.subscription:
            self._node.destroy_subscription(self.subscription)
        self._reliability = reliability
        self.subscription = reliability and self._node.create_subscription(
            self._kind, self.topic, self._callback,
            QoSProfile(depth=self._depth, reliability=reliability), raw=self._raw,
            qos_overriding_options=QoSOverridingOptions(
                policy_kinds=(QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)))
