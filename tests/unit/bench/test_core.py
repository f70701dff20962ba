"""The bench of the core measures a world that goes on and stays as full as it was."""

from __future__ import annotations

import pytest

from bench.core import LIFE_CYCLES, Driver, Workload


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(Workload("jobs", queues=2, jobs=30), id="jobs"),
        pytest.param(Workload("arrays", queues=2, jobs=2, size=10), id="arrays"),
    ],
)
def test_what_is_over_is_followed_by_more(workload: Workload) -> None:
    driver = Driver(workload, shares=0)
    driver.survey()
    first = set(driver.cache.jobs.items)
    driver.steady(20 * LIFE_CYCLES)
    driver.starts = 0
    driver.steady(2 * LIFE_CYCLES)

    assert driver.starts > 0
    assert not first & set(driver.cache.jobs.items)
    assert len(driver.cache.jobs.items) == workload.queues * workload.jobs


def test_there_are_as_many_different_requests_as_classes() -> None:
    driver = Driver(Workload("classes", queues=1, jobs=100, classes=100), shares=0)
    asked = {
        str(one.spec.container_overrides[0].resources) for one in driver.cache.jobs.items.values()
    }

    assert len(asked) == 100
