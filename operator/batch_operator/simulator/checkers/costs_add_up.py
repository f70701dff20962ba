"""What a job's attempts cost is counted once each, and a queue's cost is that of its jobs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from batch_operator.api.cost import micros, money
from batch_operator.cluster.client import BATCH_JOBS, COMPUTE_ENVIRONMENTS, JOB_QUEUES
from batch_operator.simulator.bill import Bill
from batch_operator.simulator.checkers.checker import End, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from batch_operator.simulator.api_server import Write
    from batch_operator.simulator.virtual_time import Calendar

_FINAL = frozenset({"SUCCEEDED", "FAILED"})


class CostsAddUp:
    """Exact to the millionth where the end of every attempt could be seen.

    Of an attempt that was given up, whose node went, or whose job was deleted, the operator and the
    world may disagree by what nobody saw; such a job is left out.
    """

    name = "costs_add_up"

    def __init__(self, calendar: Calendar) -> None:
        self._bill = Bill(calendar)

    def see(self, write: Write) -> Iterable[str]:
        self._bill.see(write)
        return ()

    def finish(self, end: End) -> Iterable[str]:
        if not end.is_settled:
            return
        items = self._bill.items(end.at_s)
        doubtful = {one.job_uid for one in items if not one.is_certain}
        billed = self._bill.by_job(items)
        queues: Counter[str] = Counter()
        environments: Counter[str] = Counter()
        for job in end.server.objects(BATCH_JOBS):
            cost = job.get("status", {}).get("cost") or {}
            said, uid = _total(cost), job["metadata"]["uid"]
            queues[job["spec"]["jobQueue"]] += said
            for row in cost.get("environments", ()):
                environments[row["computeEnvironment"]] += _total(row)
            is_over = job.get("status", {}).get("state") in _FINAL
            if is_over and uid not in doubtful and said != billed.get(uid, 0):
                yield (
                    f"{title(job)} says that it cost {money(said)}, its attempts cost "
                    f"{money(billed.get(uid, 0))}"
                )
        yield from self._sums(end, queues, environments)

    def _sums(self, end: End, queues: Counter[str], environments: Counter[str]) -> Iterable[str]:
        for queue in end.server.objects(JOB_QUEUES):
            name, cost = queue["metadata"]["name"], queue.get("status", {}).get("cost") or {}
            deleted = sum(_total(row) for row in cost.get("deletedJobs", ()))
            if _total(cost) - deleted != queues[name]:
                yield (
                    f"{title(queue)} says that its jobs cost {money(_total(cost) - deleted)}, "
                    f"they say {money(queues[name])}"
                )
        for one in end.server.objects(COMPUTE_ENVIRONMENTS):
            name, cost = one["metadata"]["name"], one.get("status", {}).get("cost") or {}
            used = micros(cost.get("used", "0.00")) - _total(cost.get("deletedJobs") or {})
            if used != environments[name]:
                yield (
                    f"{title(one)} says that {money(used)} of it was used, jobs say "
                    f"{money(environments[name])}"
                )


def _total(cost: Mapping[str, Any]) -> int:
    return micros(cost.get("total", "0.00"))
