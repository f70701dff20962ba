"""Job environment variables: what a container is told about its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.scheduling.mutations import StartAttempt
from conformance.rules import rule
from support.builders import definition, multi_node_spec
from support.builders import job as a_job
from support.play import pods_of, variables_of, world_of

if TYPE_CHECKING:
    from support.world import World


def _array() -> World:
    return world_of(arrayProperties={"size": 3})


@rule("variables.job-id")
def test_the_id_is_the_same_in_every_attempt() -> None:
    """Job environment variables: AWS_BATCH_JOB_ID."""
    world = world_of(retryStrategy={"attempts": 2})
    world.move(world.live()[0], Phase.FAILED)
    world.settle()
    ids = [variables_of(pod)["AWS_BATCH_JOB_ID"] for pod in pods_of(world)]

    assert ids == ["uid-a", "uid-a"]


@rule("variables.child-id")
def test_a_childs_id_is_the_arrays_with_its_index() -> None:
    """Job environment variables: AWS_BATCH_JOB_ID of children."""
    ids = [variables_of(pod)["AWS_BATCH_JOB_ID"] for pod in pods_of(_array())]

    assert ids == ["uid-a:0", "uid-a:1", "uid-a:2"]


@rule("variables.attempt")
def test_attempts_count_from_1() -> None:
    """Job environment variables: AWS_BATCH_JOB_ATTEMPT."""
    world = world_of(retryStrategy={"attempts": 3})
    for _ in range(2):
        world.move(world.live()[0], Phase.FAILED)
        world.settle()
    numbers = [variables_of(pod)["AWS_BATCH_JOB_ATTEMPT"] for pod in pods_of(world)]

    assert numbers == ["1", "2", "3"]


@rule("variables.queue")
def test_a_job_knows_its_queue() -> None:
    """Job environment variables: AWS_BATCH_JQ_NAME."""
    assert variables_of(pods_of(world_of())[0])["AWS_BATCH_JQ_NAME"] == "main"


@rule("variables.environment")
def test_a_job_knows_its_compute_environment() -> None:
    """Job environment variables: AWS_BATCH_CE_NAME."""
    assert variables_of(pods_of(world_of())[0])["AWS_BATCH_CE_NAME"] == "local"


@rule("variables.array-index")
def test_children_and_nobody_else_have_an_index_from_0() -> None:
    """Job environment variables: AWS_BATCH_JOB_ARRAY_INDEX."""
    indexes = [variables_of(pod)["AWS_BATCH_JOB_ARRAY_INDEX"] for pod in pods_of(_array())]

    assert indexes == ["0", "1", "2"]
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in variables_of(pods_of(world_of())[0])


@rule("variables.array-size")
def test_children_and_nobody_else_have_a_size() -> None:
    """Job environment variables: AWS_BATCH_JOB_ARRAY_SIZE."""
    sizes = [variables_of(pod)["AWS_BATCH_JOB_ARRAY_SIZE"] for pod in pods_of(_array())]

    assert sizes == ["3", "3", "3"]
    assert "AWS_BATCH_JOB_ARRAY_SIZE" not in variables_of(pods_of(world_of())[0])


@rule("variables.multi-node")
def test_nodes_know_their_index_their_number_and_how_to_reach_the_main_node() -> None:
    """Job environment variables: multi-node parallel jobs. What differs comes from annotations."""
    job = a_job("a")
    plan = make_plan(job, definition(spec=multi_node_spec(numNodes=3, mainNode=1)), None)

    assert isinstance(plan, Plan)
    told = [
        {
            one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"]
            for one in gang_job(StartAttempt(job, plan, 0, 1, None, "local", {}), group)["spec"][
                "template"
            ]["spec"]["containers"][0]["env"]
        }
        for group in range(2)
    ]
    common = {
        "AWS_BATCH_JOB_NODE_INDEX": f"metadata.annotations['{meta.ANNOTATION_NODE_INDEX}']",
        "AWS_BATCH_JOB_NUM_NODES": "3",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "1",
    }
    address = {
        "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": (
            f"metadata.annotations['{meta.ANNOTATION_MAIN_NODE_ADDRESS}']"
        )
    }

    assert all(common.items() <= one.items() for one in told)
    assert not address.keys() & told[0].keys()
    assert address.items() <= told[1].items()
