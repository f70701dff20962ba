"""Hypothesis strategies, in one place."""

from __future__ import annotations

from hypothesis import strategies as st

from batch_operator.api.index_set import MAX_INDEX

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
