"""How the fake machines of a pool behave: what a cloud decides elsewhere."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import CapacityType

if TYPE_CHECKING:
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment

NOTICE_S = 120
"""AWS announces the end of a spot instance two minutes before."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of one pool. `limit` is how many nodes it can have; None: any number."""

    start_up_s: float = 0.0
    limit: int | None = None
    interruptions_per_hour: float = 0.0
    notice_s: float = NOTICE_S
    refusal: str = "the pool has no more nodes"


def behaviour_of(environment: Environment, pool: PoolKey) -> Behaviour | None:
    """What the environment's `spec.provisioner.kwok` says; None when it has none."""
    provisioner = environment.spec.provisioner
    kwok = provisioner.kwok if provisioner is not None else None
    if kwok is None:
        return None
    limits = {(row.instance_type, row.capacity_type): row.nodes for row in kwok.capacity}
    is_spot = pool.capacity_type is CapacityType.SPOT
    return Behaviour(
        start_up_s=kwok.start_up_seconds,
        limit=limits.get(pool),
        interruptions_per_hour=kwok.spot_interruptions_per_hour if is_spot else 0.0,
    )


def lifetime(node: Node, behaviour: Behaviour) -> timedelta | None:
    """After which time the node is interrupted: drawn from its name, exponentially distributed.

    None: never.
    """
    if not behaviour.interruptions_per_hour:
        return None
    digest = hashlib.blake2b(node.name.encode(), digest_size=6).digest()
    drawn = (int.from_bytes(digest) + 1) / 2**48
    return timedelta(hours=-math.log(drawn) / behaviour.interruptions_per_hour)
