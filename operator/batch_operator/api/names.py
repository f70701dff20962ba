"""Names of what the operator creates: they follow from what they stand for.

Asking for the same thing twice meets `AlreadyExists` instead of making it twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST_NAME_MAX = 63
_PREFIX_MAX = 36
"""Leaves room for `-<8 of uid>-<index>-<attempt>` within the 63 characters of a host name."""


def pod_name(job_name: str, job_uid: str, index: int | None, attempt: int) -> str:
    """`render-1b4f9d2a-17-1`: job, part of its uid, array index (arrays only), attempt.

    The uid keeps a job that was deleted and submitted again under its name apart from its
    predecessor, whose Pods may still be terminating.
    """
    prefix = job_name[:_PREFIX_MAX].rstrip("-.")
    return f"{prefix}{pod_suffix(job_uid, index, attempt)}"


def gang_job_name(job_name: str, job_uid: str, attempt: int, group: int) -> str:
    """`train-1b4f9d2a-1-0`: the batch/v1 Job that makes the Pods of one group of nodes."""
    prefix = job_name[:_PREFIX_MAX].rstrip("-.")
    return f"{prefix}{gang_job_suffix(job_uid, attempt, group)}"


def gang_job_suffix(job_uid: str, attempt: int, group: int) -> str:
    """The part of a Job's name that says which nodes of which attempt it makes."""
    return f"-{job_uid[:8]}-{attempt}-{group}"


def pod_suffix(job_uid: str, index: int | None, attempt: int) -> str:
    """The part of a Pod's name that says which attempt of which job it is."""
    middle = "" if index is None else f"-{index}"
    return f"-{job_uid[:8]}{middle}-{attempt}"


def bounded(parts: Iterable[str], suffix: str, limit: int) -> str:
    """`fleet-m5.large-spot-1b4f9d2a`: as readable as `limit` lets it be, told apart by its end."""
    readable = "-".join(parts).lower().replace("_", "-")
    return f"{readable[: limit - len(suffix) - 1].rstrip('-.')}-{suffix}"
