from __future__ import annotations

from localcluster import fakenodes


def test_beside_a_real_node_a_fake_one_takes_only_pods_that_ask_for_it() -> None:
    taints = fakenodes.node(0, has_taint=True)["spec"]["taints"]

    assert taints == [
        {
            "key": "batch-operator.io/compute-environment",
            "value": "fake",
            "effect": "NoSchedule",
        }
    ]


def test_alone_it_takes_every_pod() -> None:
    """The examples' queue hands out every node that takes Pods: there would be none."""
    assert fakenodes.node(0, has_taint=False)["spec"]["taints"] == []
