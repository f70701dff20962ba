"""Hypothesis strategies, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from batch_operator.api.index_set import MAX_INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

_CORNERS = st.sampled_from((0, 1, MAX_INDEX - 1, MAX_INDEX))


@st.composite
def intervals(draw: st.DrawFn) -> tuple[int, int]:
    """First and last index of an interval, near others and anywhere."""
    low = draw(st.integers(0, 60) | st.integers(0, MAX_INDEX) | _CORNERS)
    return low, min(low + draw(st.integers(0, 40)), MAX_INDEX)


def indexes() -> st.SearchStrategy[frozenset[int]]:
    """Sets of indexes: crowded near 0, so that there are runs, and some far away."""
    return st.frozensets(st.integers(0, 30) | st.integers(0, 2000) | _CORNERS, max_size=24)


def failures() -> st.SearchStrategy[tuple[int | None, str | None, str | None]]:
    """Exit code, container reason and status reason of a failed attempt."""
    return st.tuples(
        st.none() | st.sampled_from((1, 2, 137)),
        st.none() | st.sampled_from(("OutOfMemoryError: killed", "CannotPullContainerError: x")),
        st.sampled_from(
            ("Essential container in task exited", "Host EC2 (instance node) terminated.")
        ),
    )


_ARRAYS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"size": 2},
    {"size": 4},
    {"size": 4, "maxParallel": 2},
    {"size": 4, "maxFailedIndexes": 1},
    {"indexes": "1,3-4"},
    {"indexes": "1,3-4", "maxFailedIndexes": 0, "maxParallel": 2},
)
_RETRIES: tuple[dict[str, Any], ...] = (
    {"attempts": 2},
    {"attempts": 1},
    {"attempts": 3, "evaluateOnExit": [{"onExitCode": "4*", "action": "EXIT"}]},
    {
        "attempts": 3,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "CannotPull*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    },
)
_DEPENDENCY_TYPES = st.sampled_from((None, "N_TO_N", "AFTER_ANY", "AFTER_FAILED", "SEQUENTIAL"))


@st.composite
def job_specs(
    draw: st.DrawFn,
    jobs: int,
    queues: Sequence[str],
    definitions: Sequence[str],
    *,
    timeout_s: int,
) -> dict[str, Any]:
    """Specs of jobs, as a user writes them, that depend on any of the jobs `j0`, `j1` and so on."""
    array = draw(st.sampled_from(_ARRAYS))
    depends_on = draw(st.lists(_dependencies(jobs), max_size=2))
    if array is None:
        of_arrays = {"SEQUENTIAL", "N_TO_N"}
        depends_on = [one for one in depends_on if one.get("type") not in of_arrays]
    elif any(one.get("type") == "N_TO_N" for one in depends_on):
        # Children that fail with those they wait for count towards the limit, once the operator
        # has been told of these: when that is, no rule says.
        array = {key: value for key, value in array.items() if key != "maxFailedIndexes"}
    spec: dict[str, Any] = {
        "jobQueue": draw(st.sampled_from(queues)),
        "jobDefinition": draw(st.sampled_from(definitions)),
        "retryStrategy": draw(st.sampled_from(_RETRIES)),
        "dependsOn": depends_on,
    }
    if array is not None:
        spec["arrayProperties"] = array
    if draw(st.sampled_from((True, True, False))):
        spec["timeout"] = {"attemptDurationSeconds": timeout_s}
    return spec


@st.composite
def _dependencies(draw: st.DrawFn, jobs: int) -> dict[str, Any]:
    kind = draw(_DEPENDENCY_TYPES)
    found: dict[str, Any] = {} if kind is None else {"type": kind}
    if kind != "SEQUENTIAL":
        found["job"] = f"j{draw(st.integers(0, jobs - 1))}"
    if kind not in {"SEQUENTIAL", "N_TO_N"} and draw(st.sampled_from((False, False, True))):
        found["index"] = 1
    return found
