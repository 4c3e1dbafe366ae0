"""Subscriptions that come and go, and are as reliable and as durable as their publishers."""

from collections import deque

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

_RELIABLE, _BEST_EFFORT = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
_LATCHED, _VOLATILE = QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE
_CHOICES = {
    'reliability': {'auto': None, 'reliable': _RELIABLE, 'best_effort': _BEST_EFFORT},
    'durability': {'auto': None, 'transient_local': _LATCHED, 'volatile': _VOLATILE},
}
DUPLICATE_MEMORY = 64  # messages that would be known again


def publisher_qos_overrides():
    """The QoS overrides that a publisher takes, durability among them: rclpy's own lack it."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH,
                                 QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY))


def transport_topic(node, topic, transport):
    """The name that an image topic's compressed form is subscribed by: beside it, or remapped
    itself. transport: image_transport's, as ``compressed``."""
    name = f'{topic}/{transport}'
    remapped = node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True)
    return name if remapped else f'{node.resolve_topic_name(topic)}/{transport}'


class AdaptiveSubscription:
    """A topic, subscribed while :meth:`follow` is told so.

    Best effort would match every publisher but loses large images on the way; reliable does not
    hear a best-effort camera. So it is reliable where all publishers are. What was published
    before (a calibration, once) comes only to who is transient local, which does not hear a
    volatile publisher: where there are both kinds there are two subscriptions, and what comes on
    both is taken once. The usual QoS overrides for reliability and durability go before these
    choices. ``subscription`` is None while it doesn't listen.
    depth: messages that wait. raw: the callback gets serialised messages.
    Raises ValueError for an override that is not known.
    """

    def __init__(self, node, kind, topic, callback, depth=1, raw=False):
        self._node, self._kind, self._callback = node, kind, callback
        # subscribed by its own name: one that is resolved already would be remapped once more
        self._name, self.topic = topic, node.resolve_topic_name(topic)
        self._depth, self._raw = depth, raw
        self._reliability, self._durability = map(self._override, _CHOICES)
        self._subscriptions = {}  # (reliability, durability) → subscription
        self._taken = deque(maxlen=DUPLICATE_MEMORY)

    def _override(self, policy):
        choices = _CHOICES[policy]
        chosen = self._node.declare_parameter(
            f'qos_overrides.{self.topic}.subscription.{policy}', 'auto',
            ParameterDescriptor(read_only=True, description=', '.join(choices))).value
        if chosen not in choices:
            raise ValueError(f'{policy} of {self.topic} is {chosen!r}; it must be one of: '
                             + ', '.join(choices))
        return choices[chosen]

    @property
    def subscription(self):
        """One of those that there are, or None."""
        return next(iter(self._subscriptions.values()), None)

    def _profiles(self):
        """The (reliability, durability) to listen with."""
        offered = [publisher.qos_profile for publisher in
                   self._node.get_publishers_info_by_topic(self.topic)]
        reliability = self._reliability or (
            _BEST_EFFORT if any(qos.reliability == _BEST_EFFORT for qos in offered)
            else _RELIABLE)
        if self._durability:
            return {(reliability, self._durability)}
        # only a reliable publisher sends what it has kept
        latched = sum(qos.durability == _LATCHED and qos.reliability == _RELIABLE
                      for qos in offered)
        return ({(self._reliability or _RELIABLE, _LATCHED)} if latched else set()) | (
            {(reliability, _VOLATILE)} if not latched or latched < len(offered) else set())

    def follow(self, wanted=True):
        """Subscribe, subscribe anew because the publishers have changed, or leave."""
        profiles = self._profiles() if wanted else set()
        before = self._subscriptions
        # the new before the old are gone: nothing is lost in between
        self._subscriptions = {
            profile: before.get(profile) or self._subscribe(*profile) for profile in profiles}
        for profile in before.keys() - profiles:
            self._node.destroy_subscription(before[profile])
        if not wanted:
            self._taken.clear()

    def _subscribe(self, reliability, durability):
        return self._node.create_subscription(
            self._kind, self._name, self._take,
            QoSProfile(depth=self._depth, reliability=reliability, durability=durability),
            raw=self._raw, qos_overriding_options=QoSOverridingOptions(
                policy_kinds=(QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)))

    def _take(self, message, info):
        sent = info['source_timestamp']
        if not sent or sent not in self._taken:
            self._taken.append(sent)
            self._callback(message)
