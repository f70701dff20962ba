"""What an UNMANAGED environment does not take: whatever says how nodes come and go.

AWS refuses computeResources there.
"""

from __future__ import annotations

NOT_FOR_UNMANAGED = [
    (
        f"self.type == 'MANAGED' || !has(self.{name}) || {unless}",
        f"{name} is for type MANAGED: {why}; leave it out, or write type: MANAGED",
    )
    for name, unless, why in (
        ("minvCpus", "self.minvCpus == 0", "nobody adds nodes to an UNMANAGED environment"),
        ("allocationStrategy", "false", "no node of an UNMANAGED environment is chosen"),
        ("bidPercentage", "false", "no node of an UNMANAGED environment is bought"),
        ("provisioner", "false", "the nodes of an UNMANAGED environment are there already"),
        ("updatePolicy", "false", "no node of an UNMANAGED environment is replaced"),
        ("scalingPolicy", "false", "no node of an UNMANAGED environment is removed"),
        (
            "nodeOverhead",
            "(has(self.instanceTypes) && size(self.instanceTypes) > 0)",
            "without instanceTypes nothing is known of the nodes that it could be taken off",
        ),
    )
]
"""CEL rules of an environment's spec."""
