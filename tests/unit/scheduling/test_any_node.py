"""Whatever Nodes and those who make them say, and in whatever order: a cycle goes on.

A kubelet writes most of its Node, virtual ones report anything, and Events bear any time.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType, ProvisionerType
from batch_operator.cluster import decoding
from batch_operator.cluster.cache import Cache
from batch_operator.lifecycle.stops import Policy
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.snapshot import PoolRefusal
from support.builders import START, definition, environment, job, queue
from support.managed import elastic

TIMES = ("0001-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-01-01T00:10:00Z",
         "2300-01-01T00:00:00Z", "9999-12-31T23:59:59Z")  # fmt: skip
QUANTITIES = ("0", "100m", "4", "1k", "16Gi", "100M", "9E", "1e20")
OUR_ANNOTATIONS = (meta.ANNOTATION_DRAINING, meta.ANNOTATION_GIVEN_UP, meta.ANNOTATION_RELEASED)
RESOURCES = ("cpu", "memory", "pods", "nvidia.com/gpu")
TAINTS = ({"key": meta.TAINT_COMPUTE_ENVIRONMENT, "value": "elastic"},
          {"key": meta.TAINT_COMPUTE_ENVIRONMENT, "value": "other"},
          {"key": "ToBeDeletedByClusterAutoscaler"})  # fmt: skip
LABELS = (meta.LABEL_COMPUTE_ENVIRONMENT, "node.kubernetes.io/instance-type",
          meta.LABEL_CAPACITY_TYPE, meta.LABEL_SETTINGS)  # fmt: skip

times = st.sampled_from(TIMES)
nodes = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "uid": st.sampled_from(("a", "b", "c")),
                "creationTimestamp": st.sampled_from(("2026-01-01T00:00:00Z", TIMES[1])),
                "labels": st.dictionaries(
                    st.sampled_from(LABELS), st.sampled_from(("elastic", "small", "spot", "x"))
                ),
                "annotations": st.dictionaries(st.sampled_from(OUR_ANNOTATIONS), times),
            }
        ),
        "spec": st.fixed_dictionaries(
            {
                "unschedulable": st.booleans(),
                "taints": st.lists(st.sampled_from(TAINTS), max_size=2),
            }
        ),
        "status": st.fixed_dictionaries(
            {
                "allocatable": st.fixed_dictionaries(
                    dict.fromkeys(RESOURCES, st.sampled_from(QUANTITIES))
                ),
                "conditions": st.tuples(
                    st.fixed_dictionaries(
                        {
                            "type": st.just("Ready"),
                            "status": st.sampled_from(("True", "False", "Unknown")),
                            "lastTransitionTime": times,
                        }
                    )
                ),
            }
        ),
    }
)
refusals = st.builds(
    PoolRefusal,
    st.sampled_from([START, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    st.text(max_size=300),
)
steps = st.lists(
    st.tuples(
        st.sampled_from((1, 11, 700, 86_400, -3600)),
        st.lists(nodes, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(list(CapacityType)), refusals),
    ),
    min_size=2,
    max_size=4,
)


def decoded(body: dict[str, Any], version: int) -> Any:
    metadata = body["metadata"]
    known = {meta.LABEL_COMPUTE_ENVIRONMENT: "elastic", LABELS[1]: "small", **metadata["labels"]}
    more = {"name": metadata["uid"], "resourceVersion": str(version), "labels": known}
    return decoding.node(json.dumps({**body, "metadata": {**metadata, **more}}).encode())


@settings(max_examples=150)
@given(st.sampled_from(("kwok", "none")), st.integers(0, 3), steps)
def test_no_node_and_no_refusal_is_an_error(
    provisioner: str, jobs: int, happens: list[Any]
) -> None:
    cache, memo, now = Cache(), Memo(), START
    cache.followers = frozenset({ProvisionerType.NONE})
    spec = elastic(capacityTypes=["on-demand", "spot"], provisioner={"type": provisioner})["spec"]
    cache.environments.replace([environment("elastic", **spec)], 1)
    order = [{"order": 1, "computeEnvironment": "elastic"}]
    cache.queues.replace([queue(computeEnvironmentOrder=order)], 1)
    stored = definition()
    assert stored.object is not None
    cache.definitions.upsert(stored.object)
    cache._definitions[stored.object.key] = stored
    for number in range(jobs):
        cache.jobs.upsert(job(f"job-{number}"))
    for version, (seconds, bodies, refused) in enumerate(happens, start=2):
        for one in bodies:
            cache.nodes.upsert(decoded(one, version))
        for capacity_type, refusal in refused.items():
            cache.refuse_pool("elastic", PoolKey("small", capacity_type), refusal)
        now += timedelta(seconds=seconds)
        result = run_cycle(cache.snapshot(now, Policy(), 100), memo)

        assert not result.faults, result.faults
