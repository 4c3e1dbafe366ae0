"""Hostile messages, 20,000 of them: through the callbacks of a depth node, a good frame after each.

``python test/soak/hostile.py [--messages 20000] [--minutes 15]``
"""

import os
import random
import re
import sys
import time
from collections import Counter

from ground import arguments

# isort: split
from hostile import Victim, fuzz, held_megabytes

from hybrid_depth_ros.nodes.shared.run_node import prepare_process

ROUND = 500
MOST_GROWTH = 150.0  # MB: what the largest picture that is let in, 2²⁵ pixels, takes once


def attack(transport, count, seconds, number):
    """Send `count` hostile messages for at most `seconds`; returns how many were sent, and by how
    many MB memory grew."""
    victim = Victim(transport)
    said, skip, sent = Counter(), victim.camera.skip, 0

    def keep(error):
        said[re.sub(r"'[^']*'|\d+", '…', str(error))[:75]] += 1
        skip(error)
    victim.camera.skip = keep
    try:
        fuzz(victim, ROUND, number=number - 1)  # what comes first leaves something behind
        start, before, slowest = time.monotonic(), held_megabytes(), 0.0
        victim.refusals = 0
        said.clear()
        attack_once = victim.attack

        def timed(*messages):
            nonlocal slowest
            began = time.monotonic()
            attack_once(*messages)
            slowest = max(slowest, time.monotonic() - began)
        victim.attack = timed
        # in rounds, since hypothesis remembers all of one
        for place in range(0, count, ROUND):
            sent += fuzz(victim, min(ROUND, count - place),
                         lambda: time.monotonic() - start < seconds, number + place)
        took, after = time.monotonic() - start, held_megabytes()
        victim.check_log()
    finally:
        victim.close()
    print(f'{transport}: {sent} hostile messages in {took:.0f} s, {victim.refusals} refused, '
          f'{sent - victim.refusals} with depth, a right frame after each; '
          f'{len(victim.log.warnings)} warnings logged; slowest pair {slowest:.2f} s; '
          f'memory {before:.0f} → {after:.0f} MB', flush=True)
    for words, times in said.most_common(12):
        print(f'  {times:6d} × {words}')
    return sent, after - before


def main():
    args = arguments(__doc__, minutes=15, messages=20_000,
                     seed=random.randrange(2**32)).parse_args()
    print(f'seed {args.seed}', flush=True)
    # libpng and libjpeg complain there of every picture; Python keeps the real one
    sys.stderr = os.fdopen(os.dup(2), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    prepare_process()  # memory is given back as the node gives it
    rounds = [attack(transport, args.messages // 2, 30 * args.minutes, args.seed)
              for transport in ('raw', 'compressed')]
    sent, growth = sum(count for count, _ in rounds), max(growth for _, growth in rounds)
    print(f'{sent} of {args.messages} messages: no crash, no hang')
    bounded = growth <= MOST_GROWTH
    if not bounded:
        print(f'memory grew by {growth:.0f} MB, more than {MOST_GROWTH:.0f}')
    return 0 if bounded and sent == args.messages else 1


if __name__ == '__main__':
    sys.exit(main())
