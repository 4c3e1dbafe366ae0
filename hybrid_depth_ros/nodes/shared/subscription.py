"""Subscriptions that come and go, and are as reliable and as durable as their publishers."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

Profile = tuple[QoSReliabilityPolicy, QoSDurabilityPolicy]

_RELIABLE, _BEST_EFFORT = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
_LATCHED, _VOLATILE = QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    'reliability': {'auto': None, 'reliable': _RELIABLE, 'best_effort': _BEST_EFFORT},
    'durability': {'auto': None, 'transient_local': _LATCHED, 'volatile': _VOLATILE},
}
DUPLICATE_MEMORY = 64  # messages that would be known again


def publisher_qos_overrides() -> QoSOverridingOptions:
    """Return the QoS overrides that a publisher takes: rclpy's own leave out durability."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH,
                                 QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY))


def transport_topic(node: Node, topic: str, transport: str) -> str:
    """Return the name to subscribe an image topic's compressed form by.

    Args:
        node: Whose remappings count: of the form's own name first, else of the image's.
        topic: The image topic, not yet remapped.
        transport: image_transport's name of the form, as ``compressed``.
    """
    name = f'{topic}/{transport}'
    remapped = node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True)
    return name if remapped else f'{node.resolve_topic_name(topic)}/{transport}'


class AdaptiveSubscription:
    """A topic that is subscribed while it is wanted, with the QoS that its publishers offer.

    Best effort matches every publisher but loses large images on the way; reliable does not hear a
    best-effort camera. So it is reliable where there are publishers and all are. What was published
    before (a calibration, once) comes only to a transient-local subscription, which does not hear a
    volatile publisher: where there are both kinds there are two subscriptions, and what comes on
    both is taken once. The usual QoS overrides for reliability and durability go before these
    choices.

    (BEST_AVAILABLE would look at the publishers once, when the subscription is made; they come and
    go. Their coming is heard by the events of rclpy's subscriptions.)

    ``subscription`` is None while it doesn't listen; ``topic`` is the resolved name.

    Args:
        node: That listens.
        kind: The message's class.
        topic: Its name, not yet remapped.
        callback: Takes each message.
        depth: Messages that wait.
        raw: The callback gets serialised messages.

    Raises:
        ValueError: For an override that is not known.
    """

    def __init__(self, node: Node, kind: type[Any], topic: str, callback: Callable[[Any], None],
                 depth: int = 1, raw: bool = False) -> None:
        self._node, self._kind, self._callback = node, kind, callback
        # subscribed by its own name: one that is resolved already would be remapped once more
        self._name, self.topic = topic, node.resolve_topic_name(topic)
        self._depth, self._raw = depth, raw
        self._reliability, self._durability = map(self._override, _CHOICES)
        self._subscriptions: dict[Profile, Subscription] = {}
        self._leaving: dict[Profile, Subscription] = {}
        self._recent: deque[int] = deque(maxlen=DUPLICATE_MEMORY)  # source stamps

    def _override(self, policy: str) -> Any:
        choices = _CHOICES[policy]
        chosen = self._node.declare_parameter(
            f'qos_overrides.{self.topic}.subscription.{policy}', 'auto',
            ParameterDescriptor(read_only=True, description=', '.join(choices))).value
        if chosen not in choices:
            raise ValueError(f'{policy} of {self.topic} is {chosen!r}; it must be one of: '
                             + ', '.join(choices))
        return choices[chosen]

    @property
    def subscription(self) -> Subscription | None:
        """One of those that there are."""
        return next(iter(self._subscriptions.values()), None)

    def _matching_profiles(self) -> set[Profile]:
        offered = [publisher.qos_profile for publisher in
                   self._node.get_publishers_info_by_topic(self.topic)]
        # reliable before it is known what is offered, a best-effort publisher would log that
        # nothing will be received
        reliability = self._reliability or (
            _RELIABLE if offered and all(qos.reliability == _RELIABLE for qos in offered)
            else _BEST_EFFORT)
        if self._durability:
            return {(reliability, self._durability)}
        # only a reliable publisher sends what it has kept
        latched = sum(qos.durability == _LATCHED and qos.reliability == _RELIABLE
                      for qos in offered)
        profiles = set()
        if latched:
            profiles.add((self._reliability or _RELIABLE, _LATCHED))
        if latched < len(offered) or not latched:
            profiles.add((reliability, _VOLATILE))
        return profiles

    def update(self, wanted: bool = True) -> None:
        """Subscribe as the publishers are now, or leave where the topic is not wanted."""
        profiles = self._matching_profiles() if wanted else set()
        before = {**self._leaving, **self._subscriptions}
        self._subscriptions = {
            profile: before.get(profile) or self._subscribe(profile) for profile in profiles}
        # a new one hears nothing until its publisher knows of it: the old ones stay until it does
        self._leaving = {profile: before[profile] for profile in before.keys() - profiles}
        if not wanted:
            self._leave()
            self._recent.clear()

    def _leave(self) -> None:
        """Destroy those in whose places others hear now."""
        leaving, self._leaving = self._leaving, {}
        for subscription in leaving.values():
            self._node.destroy_subscription(subscription)

    def _publishers_changed(self, _: Any) -> None:
        if self._subscriptions:  # an event of before it was left may come after
            self.update()

    def _subscribe(self, profile: Profile) -> Subscription:
        reliability, durability = profile
        return self._node.create_subscription(
            self._kind, self._name, partial(self._take, profile),  # type: ignore[arg-type]
            QoSProfile(depth=self._depth, reliability=reliability, durability=durability),
            raw=self._raw, qos_overriding_options=QoSOverridingOptions(
                policy_kinds=(QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._publishers_changed, matched=self._publishers_changed))

    def _take(self, profile: Profile, message: Any, info: Mapping[str, Any]) -> None:
        if self._leaving and profile in self._subscriptions:
            self._leave()
        sent = info['source_timestamp']
        if not sent or sent not in self._recent:
            self._recent.append(sent)
            self._callback(message)
