"""What jobs, shares, queues and environments cost, by hand, over their lives and beyond.

A second of a node costs a thousandth, on spot half of that; a job with one vCPU bears a quarter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.cost import PoolCost, micros
from batch_operator.lifecycle.attempt import Phase
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.environment_costs import POOLS_MAX
from support.builders import definition, job, multi_node_spec, queue, scheduling_policy
from support.priced import FOUR, PricedWorld
from support.world import CrashError

if TYPE_CHECKING:
    from batch_operator.api.cost import Costs

SPOT = CapacityType.SPOT
TWICE = {"retryStrategy": {"attempts": 2}}


def world(**spec: Any) -> PricedWorld:
    """A world with a node on demand, `a`, and one on spot, `s`."""
    found = PricedWorld(**spec)
    found.settle()
    found.add_node("a")
    found.add_node("s", SPOT)
    found.settle()
    return found


def submit(those: PricedWorld, name: str = "job", **spec: Any) -> None:
    those.submit(job(name, **spec))
    those.settle()


def texts(costs: Costs) -> tuple[str, str, str]:
    return costs.total, costs.wasted, costs.spot_savings


def test_an_attempt_costs_its_part_of_its_node_from_binding_to_end() -> None:
    those = world()
    submit(those)
    those.bind("a")
    those.tick(40)
    those.end()

    row = next(iter(those.jobs.values())).status.attempts[0]

    assert texts(those.cost("job")) == ("0.01", "0.00", "0.00")
    assert (row.instance_type, row.capacity_type, row.cost) == ("four", "on-demand", "0.01")


def test_time_without_a_node_is_free() -> None:
    those = world()
    submit(those)
    those.tick(1000)
    those.bind("a")
    those.tick(4)
    those.end()

    assert those.cost("job").total == "0.001"


def test_a_job_that_never_had_a_node_has_no_cost() -> None:
    those = world()
    submit(those, cancel={"reason": "no"})

    assert next(iter(those.jobs.values())).status.cost is None


def test_an_attempt_that_fails_is_wasted_and_the_one_that_succeeds_is_not() -> None:
    those = world()
    submit(those, **TWICE)
    those.bind("a")
    those.tick(20)
    those.end(Phase.FAILED)
    those.bind("a")
    those.tick(40)
    those.end()

    assert those.state("job") == "SUCCEEDED"
    assert texts(those.cost("job")) == ("0.015", "0.005", "0.00")


def test_spot_costs_its_own_price_and_saves_the_rest() -> None:
    those = world()
    submit(those)
    those.bind("s")
    those.tick(40)
    those.end()

    assert texts(those.cost("job")) == ("0.005", "0.00", "0.005")


def test_an_array_has_sums_and_no_row_per_child() -> None:
    those = world()
    submit(those, arrayProperties={"size": 3})
    those.bind("a")
    those.tick(40)
    those.end()
    status = next(iter(those.jobs.values())).status

    assert texts(those.cost("job")) == ("0.03", "0.00", "0.00")
    assert status.attempts == []


def test_a_gang_costs_what_all_its_nodes_do_until_the_main_node_ends() -> None:
    those = world()
    those.definitions = [definition(spec=multi_node_spec(numNodes=3))]
    those.restart()
    submit(those)
    those.make_nodes()
    those.settle()
    those.bind("a", pod_ip="10.0.0.1")
    those.tick(8)
    those.bind("s")
    those.tick(40)
    main = next(one for one in those.live() if one.node_group == 0)
    those.move(main, Phase.SUCCEEDED)
    those.settle()

    # The main node for 48 s on demand, two others for 40 s each on spot.
    assert texts(those.cost("job")) == ("0.022", "0.00", "0.01")


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same operator", "restarted"])
def test_a_job_knows_its_node_when_that_is_gone(*, is_restarted: bool) -> None:
    """Its row has told of the node since it was bound."""
    those = world()
    submit(those)
    those.bind("a")
    those.tick(40)
    those.remove_node("a")
    if is_restarted:
        those.restart()
    those.end(Phase.FAILED)

    assert texts(those.cost("job")) == ("0.01", "0.01", "0.00")


@pytest.mark.parametrize(
    ("is_restarted", "total"),
    [
        pytest.param(False, "0.02", id="the last look knows"),
        pytest.param(True, "0.01", id="the cheapest that it could have been"),
    ],
)
def test_a_child_whose_node_is_gone(*, is_restarted: bool, total: str) -> None:
    those = world()
    submit(those, arrayProperties={"size": 2})
    those.bind("a")
    those.tick(40)
    those.remove_node("a")
    if is_restarted:
        those.restart()
    those.end(Phase.FAILED)

    assert those.cost("job").total == total


def test_a_node_that_is_known_only_after_its_pod_is_no_guess_any_more() -> None:
    """Watches are apart: until the Node is seen it could be the cheapest, and nobody says so."""
    those = world()
    submit(those)
    those.bind("late")
    assert next(iter(those.jobs.values())).status.attempts[0].instance_type is None
    those.add_node("late")
    those.tick(40)
    those.end()
    row = next(iter(those.jobs.values())).status.attempts[0]

    assert those.cost("job").total == "0.01"
    assert (row.instance_type, row.capacity_type, row.cost) == ("four", "on-demand", "0.01")


def test_a_node_of_a_type_without_a_price_is_not_taken_for_the_cheapest() -> None:
    those = world()
    submit(those)
    those.bind("late")
    those.add_node("late", pool=PoolKey("unlisted", SPOT))
    those.tick(40)
    those.end()

    assert next(iter(those.jobs.values())).status.cost is None


def test_what_has_no_price_shows_no_cost() -> None:
    those = world(instanceTypes=[{name: FOUR[name] for name in ("name", "vcpus", "memory")}])
    submit(those)
    those.bind("a")
    those.tick(40)
    those.end()

    assert next(iter(those.jobs.values())).status.cost is None
    assert those.queues[0].status.cost is None
    assert those.environments[0].status.cost is None


def test_cost_is_of_the_day_on_which_an_attempt_ends() -> None:
    those = world()
    submit(those, **TWICE)
    those.bind("a")
    those.tick(24 * 3600 + 4)
    those.end(Phase.FAILED)
    those.bind("a")
    those.tick(40)
    those.tick(24 * 3600)
    those.end()

    assert those.cost("job").days == {"2026-01-02": "21.601", "2026-01-03": "21.61"}


def test_a_queue_sums_up_by_share_also_what_is_deleted_by_now() -> None:
    those = world()
    those.policies = [scheduling_policy()]
    those.queues = [queue(schedulingPolicy="fair")]
    those.restart()
    for name, share in (("one", "red"), ("two", "red"), ("three", "blue")):
        submit(those, name, shareIdentifier=share)
    those.bind("a")
    those.tick(40)
    those.end()
    those.delete("one")
    before = those.queue_cost
    those.restart()
    those.settle()

    assert texts(before) == ("0.03", "0.00", "0.00")
    assert {one.share_identifier: one.total for one in before.shares} == {
        "red": "0.02",
        "blue": "0.01",
    }
    assert [(one.share_identifier, one.total, one.days) for one in before.deleted_jobs] == [
        ("red", "0.01", {"2026-01-01": "0.01"})
    ]
    assert those.queue_cost == before


def test_of_shares_that_are_never_used_again_only_the_dearest_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And that with a budget, whose days would be forgotten; of the others no cost is lost.

    A share may be the name of one run of a pipeline. What costs nothing leaves nothing.
    """
    monkeypatch.setattr("batch_operator.scheduling.ledger.ACCOUNTS_MAX", 2)
    those = world()
    those.policies = [scheduling_policy()]
    budget = {"name": "b", "amount": 1, "window": "DAY", "action": "NOTIFY", "shareIdentifier": "a"}
    those.queues = [queue(schedulingPolicy="fair", budgets=[budget])]
    those.restart()
    for share, seconds in (("a", 40), ("b", 80), ("free", 0), ("c", 160), ("d", 120)):
        submit(those, share, shareIdentifier=share)
        those.bind("a")
        those.tick(seconds)
        those.end()
        those.delete(share)
    rows = those.queue_cost.deleted_jobs

    assert texts(those.queue_cost) == ("0.10", "0.00", "0.00")
    assert [(one.share_identifier, one.total, one.days) for one in rows] == [
        ("", "0.05", {"2026-01-01": "0.05"}),
        ("a", "0.01", {"2026-01-01": "0.01"}),
        ("c", "0.04", {"2026-01-01": "0.04"}),
    ]
    assert those.memo.ledger.shares["main"].keys() == {"", "a", "c"}


def test_a_job_that_is_deleted_while_it_runs_has_cost_what_it_held_in_vain() -> None:
    those = world()
    submit(those)
    those.bind("a")
    those.tick(40)
    those.delete("job")

    assert texts(those.queue_cost) == ("0.01", "0.01", "0.00")
    assert those.environment_cost.deleted_jobs is not None
    assert those.environment_cost.used == "0.01"


def test_an_environment_costs_what_its_nodes_do_and_what_no_job_bears_is_idle() -> None:
    those = world()
    submit(those)
    those.bind("a")
    those.tick(40)
    those.end()
    cost = those.environment_cost

    # 40 s of one node on demand and one on spot, of which the job had a quarter of the first.
    assert (cost.nodes, cost.used, cost.idle, cost.wasted) == ("0.06", "0.01", "0.05", "0.00")
    assert cost.spot_savings == "0.02"
    assert [(one.capacity_type, one.nodes, one.cost) for one in cost.pools] == [
        ("on-demand", 1, "0.04"),
        ("spot", 1, "0.02"),
    ]


def test_of_more_pools_than_a_status_holds_no_cost_is_lost() -> None:
    """Types that are used no more, over the years: by name they come before those with nodes."""
    those = world()
    gone = [
        PoolCost(instance_type=f"a{number}", capacity_type="spot", nodes=0, cost="1.00")
        for number in range(POOLS_MAX - 1)
    ]
    stored = those.environments[0]
    before = those.environment_cost.model_copy(update={"pools": gone})
    status = stored.status.model_copy(update={"cost": before})
    those.environments[0] = replace(stored, status=status)
    those.restart()
    those.tick(40)
    those.settle()
    pools = {(one.instance_type, one.capacity_type): one for one in those.environment_cost.pools}

    assert len(pools) <= POOLS_MAX
    assert pools["(others)", "spot"].cost == "3.00"
    assert [pools["four", kind].nodes for kind in CapacityType] == [1, 1]
    assert those.environment_cost.nodes == "199.06"


def test_what_still_runs_is_used_and_not_idle() -> None:
    those = world()
    submit(those)
    those.bind("a")
    those.tick(40)
    those.remove_node("s")
    those.settle()

    assert (those.environment_cost.used, those.environment_cost.idle) == ("0.01", "0.05")


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same operator", "restarted"])
def test_a_node_costs_until_it_is_seen_to_be_gone(*, is_restarted: bool) -> None:
    those = world()
    those.tick(100)
    if is_restarted:
        those.restart()
    those.remove_node("s")
    those.settle()
    those.tick(1000)
    those.remove_node("a")
    those.settle()
    those.tick(1000)
    those.cycle()
    cost = those.environment_cost

    assert {one.capacity_type: one.cost for one in cost.pools} == {
        "on-demand": "1.10",
        "spot": "0.05",
    }


def test_of_nodes_that_others_may_use_too_only_the_used_part_is_known() -> None:
    those = world(nodeSelector={"disk": "ssd"})
    submit(those)
    those.bind("a")
    those.tick(40)
    those.end()
    cost = those.environment_cost

    assert (cost.nodes, cost.idle, cost.used) == (None, None, "0.01")


def test_a_world_in_which_nothing_happens_is_not_written_to() -> None:
    those = world()
    submit(those)
    submit(those, "later")
    those.bind("a")
    those.tick(40)
    those.end()
    before = those.writes
    for _ in range(3):
        those.tick(100_000)
        those.restart()
        those.settle()

    assert those.writes == before


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["node", "spot node", "bind", "end", "fail", "remove", "restart"]),
        st.integers(0, 100),
        st.integers(0, 3),
    ),
    min_size=4,
    max_size=30,
)


@given(STEPS)
def test_what_jobs_bear_and_what_is_idle_is_what_nodes_cost(
    steps: list[tuple[str, int, int]],
) -> None:
    """To a millionth for each attempt and each settlement, whatever comes in between."""
    those = PricedWorld()
    submit(those, arrayProperties={"size": 12}, retryStrategy={"attempts": 10})
    for number, (what, seconds, which) in enumerate(steps):
        _step(those, what, f"n{number}", which)
        those.tick(seconds)
    for node in list(those.nodes):
        _step(those, "remove", node, 0)
    those.end()
    those.add_node("last")
    those.settle()
    cost = those.environments[0].status.cost

    assert cost is not None
    assert cost.nodes is not None
    assert cost.idle is not None
    borne = micros(those.cost("job").total) if those.jobs["uid-job"].status.cost else 0
    assert abs(borne + micros(cost.idle) - micros(cost.nodes)) <= 12 * len(steps)


def _step(those: PricedWorld, what: str, name: str, which: int) -> None:
    """Something happens to a node, or to the Pods on it; four have room on each."""
    names = sorted(those.nodes)
    node = names[which % len(names)] if names else None
    there = [one for one in those.live() if one.node_name == node and node is not None]
    match what:
        case "node" | "spot node":
            those.add_node(name, SPOT if what == "spot node" else CapacityType.ON_DEMAND)
        case "bind" if node is not None:
            waiting = [one for one in those.live() if one.phase is Phase.UNBOUND]
            for pod in waiting[: 4 - len(there)]:
                those.move(pod, Phase.RUNNING, node_name=node, bound_at=those.now)
        case "end" | "fail":
            for pod in there[: which + 1]:
                those.move(pod, Phase.SUCCEEDED if what == "end" else Phase.FAILED)
        case "remove" if node is not None and not there:
            those.remove_node(node)
        case "restart":
            those.restart()
    those.settle()


def test_an_attempt_on_a_node_that_an_environment_selects_by_other_labels_costs_its_part() -> None:
    """Such a node names no environment; its pool and its price are known all the same."""
    those = PricedWorld(nodeSelector={"team": "blue"})
    those.add_node("a", environment="", claimed_by=None)
    submit(those)
    those.bind()
    those.tick(1000)
    those.end()

    assert those.cost("job").total == "0.25"
    assert those.cost("job").spot_savings == "0.00"


def test_what_is_on_a_node_whose_type_is_taken_out_of_the_spec_costs_what_it_did() -> None:
    """An infrastructure update leaves what runs there its time: that is not for nothing."""
    those = PricedWorld()
    those.add_node("a")
    submit(those)
    those.bind()
    those.tick(1000)
    those.settle()
    those.edit(instanceTypes=[{**FOUR, "name": "other"}])
    those.settle()
    those.tick(1000)
    those.end()
    those.remove_node("a")
    those.settle()

    assert those.cost("job").total == "0.50"
    assert those.environment_cost.nodes == "2.00"


def test_a_restart_at_any_write_changes_no_cost() -> None:
    """Three children, the last of which fails at first."""
    calm = _story(None)
    for number in range(calm.writes):
        crashed = _story(number)

        assert crashed.cost("job") == calm.cost("job"), number
        assert texts(crashed.queue_cost) == texts(calm.queue_cost), number
        assert crashed.environment_cost.used == calm.environment_cost.used, number
        assert crashed.environment_cost.wasted == calm.environment_cost.wasted, number


def _story(crash_before: int | None) -> PricedWorld:
    """The operator dies before one of its writes and is there again at once."""
    those = _Mortal()
    those.crash_before = crash_before
    those.settle()
    those.add_node("a")
    those.add_node("s", SPOT)
    submit(those, arrayProperties={"size": 3}, **TWICE)
    those.bind("a")
    those.tick(40)
    for pod in those.live():
        those.move(pod, Phase.FAILED if pod.index == 2 else Phase.SUCCEEDED)
    those.settle()
    those.bind("s")
    those.tick(10)
    those.end()
    those.settle()
    return those


class _Mortal(PricedWorld):
    def settle(self) -> None:
        try:
            super().settle()
        except CrashError:
            self.crash_before = None
            self.restart()
            super().settle()
