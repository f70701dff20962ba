"""What a simulation came to: outcomes, times, use of capacity and cost; as lines or as a table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.api.sentences import listed, shortened
from batch_operator.cluster.client import BATCH_JOBS, COMPUTE_ENVIRONMENTS, NODES, PODS
from batch_operator.lifecycle.outcomes import EXITED
from batch_operator.simulator.bill import Bill, amount
from batch_operator.simulator.checkers.checker import attempt_pod
from batch_operator.simulator.pod_scheduler import pod_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.simulator.api_server import Write
    from batch_operator.simulator.checkers.checker import Violation
    from batch_operator.simulator.trace import Transition
    from batch_operator.simulator.virtual_time import Calendar

    Json = dict[str, Any]
    Waits = Mapping[str, tuple[Sequence[float], int]]

INDEXES_SHOWN_MAX = 40
"""Characters of a set of indexes in the table; all of it is in the lines."""
_FINAL = frozenset({"SUCCEEDED", "FAILED"})


@dataclass(slots=True)
class _Node:
    environment: str
    vcpus: int
    instance_type: str
    capacity_type: str
    since_s: float
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Use:
    """An attempt on a node, from its binding to its end."""

    job_uid: str
    environment: str
    node: str
    milli_cpu: int
    since_s: float


class Account:
    """Keeps the books: who held what, where, for how long."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._jobs: dict[str, Json] = {}
        self._deleted: set[str] = set()
        self._over_before: set[str] = set()
        self._begun_s: float | None = None
        self._pods_of: Counter[str] = Counter()
        self._environments: dict[str, Json] = {}
        self._nodes: dict[str, _Node] = {}
        self._open: dict[str, _Use] = {}
        self._closed: list[tuple[_Use, float]] = []
        self._largest = 0
        self._bill = Bill(calendar)

    def see(self, write: Write) -> None:
        """Take one accepted write."""
        value = write.object
        self._bill.see(write)
        self._largest = max(self._largest, len(write.raw))
        if write.resource is BATCH_JOBS:
            uid = value["metadata"]["uid"]
            if self._begun_s is None:
                self._begun_s = write.at_s
            if write.is_creation and value["status"]["state"] in _FINAL:
                self._over_before.add(uid)
            if uid in self._over_before:
                return  # not of this run
            self._jobs[uid] = value
            if write.is_removal:
                self._deleted.add(uid)
        elif write.resource is PODS:
            self._see_pod(write)
        elif write.resource == NODES:
            self._see_node(write)
        elif write.resource is COMPUTE_ENVIRONMENTS:
            self._environments[value["metadata"]["name"]] = value

    def _see_node(self, write: Write) -> None:
        metadata = write.object["metadata"]
        name, labels = metadata["name"], metadata["labels"]
        if write.is_removal:
            self._nodes[name].until_s = write.at_s
        elif write.is_creation:
            self._nodes[name] = _Node(
                environment=labels["batch-operator.io/compute-environment"],
                vcpus=int(write.object["status"]["capacity"]["cpu"]),
                instance_type=labels[LABEL_INSTANCE_TYPE],
                capacity_type=labels[meta.LABEL_CAPACITY_TYPE],
                since_s=write.at_s,
            )

    def _see_pod(self, write: Write) -> None:
        pod = attempt_pod(write.object)
        if pod is None:
            return
        if write.is_creation and pod.is_main:
            self._pods_of[pod.job_uid] += 1
        is_over = write.is_removal or not pod.is_live
        if is_over and (use := self._open.pop(pod.uid, None)) is not None:
            self._closed.append((use, write.at_s))
        elif not is_over and pod.is_bound and pod.uid not in self._open:
            node = write.object["spec"]["nodeName"]
            milli_cpu = pod_request(write.object["spec"]).milli_cpu
            self._open[pod.uid] = _Use(pod.job_uid, pod.environment, node, milli_cpu, write.at_s)

    def finals(self, at_s: float) -> list[Json]:
        """One line per job, in order of submission."""
        costs = {
            uid: amount(cost) for uid, cost in self._bill.by_job(self._bill.items(at_s)).items()
        }
        return [self._final(uid, job, costs.get(uid)) for uid, job in self._jobs.items()]

    def _final(self, uid: str, job: Mapping[str, Any], cost: float | None) -> Json:
        metadata, status = job["metadata"], job.get("status", {})
        line: Json = {
            "final": f"{metadata['namespace']}/{metadata['name']}",
            "state": status.get("state"),
            "attempts": self._pods_of[uid],
            "startedAt": self._virtual(status.get("startedAt")),
            "stoppedAt": self._virtual(status.get("stoppedAt")),
            "statusReason": status.get("statusReason"),
            **_last_end(status),
            "summary": (status.get("array") or {}).get("statusSummary") or {},
            "cost": cost,
            "bytes": len(msgspec.json.encode(job)),
        }
        if pending := status.get("pending"):
            line["pending"] = {"reason": pending["reason"], "message": pending["message"]}
        if uid in self._deleted:
            line["deleted"] = True
        return line

    def _virtual(self, text: str | None) -> float | None:
        return None if text is None else self._calendar.seconds_of(text)

    def summary(self, transitions: Sequence[Transition], waits: Waits, at_s: float) -> Json:
        """The whole run in numbers; per second means per virtual second."""
        begun_s = self._begun_s or 0.0
        ends = [one.at_s for one in transitions if one.after in _FINAL]
        ends += [until_s for _, until_s in self._uses(at_s)]
        makespan_s = max(ends, default=begun_s) - begun_s
        states = Counter(job.get("status", {}).get("state") for job in self._jobs.values())
        end_s = begun_s + makespan_s
        nodes = self._bill.nodes(end_s)
        known = [tally.total for tally in nodes.values() if tally is not None]
        return {
            "jobs": {state: states[state] for state in sorted(states, key=str)},
            "makespan": round(makespan_s, 3),
            "attempts": sum(self._pods_of.values()),
            "largestObjectBytes": self._largest,
            "waiting": {queue: _waiting(*those) for queue, those in sorted(waits.items())},
            "utilisation": self._utilisation(makespan_s, at_s),
            "nodeSeconds": round(self._node_seconds(end_s), 3),
            "cost": amount(sum(known)) if known else None,
            "costs": {
                name: None if tally is None else amount(tally.total)
                for name, tally in nodes.items()
            },
            "bill": self._bill.summary(at_s, end_s),
            "decisionsPerSecond": (
                round(sum(self._pods_of.values()) / makespan_s, 3) if makespan_s else 0.0
            ),
        }

    def _utilisation(self, makespan_s: float, at_s: float) -> dict[str, float]:
        """The share of maxvCpus that attempts on nodes held, over the makespan."""
        held: dict[str, float] = defaultdict(float)
        for use, until_s in self._uses(at_s):
            held[use.environment] += use.milli_cpu / 1000 * (until_s - use.since_s)
        return {
            name: round(held[name] / (value["spec"]["maxvCpus"] * makespan_s), 4)
            if makespan_s
            else 0.0
            for name, value in sorted(self._environments.items())
        }

    def _uses(self, at_s: float) -> Iterable[tuple[_Use, float]]:
        yield from self._closed
        for use in self._open.values():
            yield use, at_s

    def _node_seconds(self, end_s: float) -> float:
        """What all nodes stood for, up to `end_s`."""
        ends = (
            (one.since_s, end_s if one.until_s is None else min(one.until_s, end_s))
            for one in self._nodes.values()
        )
        return sum(max(0.0, until_s - since_s) for since_s, until_s in ends)


def _last_end(status: Mapping[str, Any]) -> Json:
    """How its last attempt ended; of an array, how children have failed."""
    if (array := status.get("array")) is not None:
        return {"failures": array.get("failures", [])}
    ended = [one for one in status.get("attempts", ()) if "stoppedAt" in one]
    last = ended[-1] if ended else {}
    return {"exitCode": last.get("exitCode"), "reason": last.get("reason")}


def _waiting(waited_s: Sequence[float], left: int) -> Json:
    """How long jobs and children of a queue waited; `left` of them had not started in the end."""
    ordered = sorted(waited_s)

    def quantile(share: float) -> float | None:
        """The least value that is not exceeded by this share of all (nearest rank)."""
        return round(ordered[ceil(share * len(ordered)) - 1], 3) if ordered else None

    return {
        "started": len(ordered),
        "p50": quantile(0.5),
        "p90": quantile(0.9),
        "max": quantile(1.0),
        "left": left,
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulation's result."""

    transitions: tuple[Transition, ...]
    finals: tuple[Json, ...]
    summary: Json
    violations: tuple[Violation, ...]
    writes: int
    """How many writes the operator asked for; a crash can be had at any of them."""
    statuses: Mapping[tuple[str, str, str], Json]
    """Of all our objects but definitions at the end, by kind, namespace and name."""

    @property
    def exit_code(self) -> int:
        return 3 if self.violations else 0

    def states(self) -> dict[str, tuple[str, int]]:
        """Final state and number of attempts by job, for comparisons."""
        return {one["final"]: (one["state"], one["attempts"]) for one in self.finals}

    def json_lines(self) -> str:
        """The contract's lines: transitions, one per job, and the summary."""
        lines: list[Json] = [one.to_json() for one in self.transitions]
        lines += self.finals
        lines.append({"summary": self.summary})
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def table(self) -> str:
        """For people: a row per job, the summary below."""
        heading = ("JOB", "STATE", "ATTEMPTS", "STARTED", "STOPPED", "WHY")
        rows = [heading, *(_row(one) for one in self.finals)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        summary = self.summary
        used = ", ".join(f"{name} {share:.0%}" for name, share in summary["utilisation"].items())
        lines += [
            "",
            f"makespan     {summary['makespan']:g} s",
            f"attempts     {summary['attempts']}",
            f"API writes   {sum(sum(one.values()) for one in summary['writes'].values())}",
            f"utilisation  {used}",
            f"node time    {summary['nodeSeconds']:g} s",
            *(f"waited       {one}" for one in _waiting_rows(summary["waiting"])),
        ]
        if summary["cost"] is not None:
            lines.append(f"cost         {summary['cost']:.4f}")
        if not summary["settled"]:
            lines.append(f"stopped at   {summary['virtualSeconds']:g} s: not everything had ended")
        return "\n".join(lines) + "\n"


def _row(final: Mapping[str, Any]) -> tuple[str, ...]:
    state = final["state"] + (" (deleted)" if final.get("deleted") else "")
    if counts := final["summary"]:
        total = sum(counts.values())
        state += f" {counts.get('SUCCEEDED', 0)}/{total}"
    why = final.get("pending", {}).get("message") or final["statusReason"] or ""
    if state.startswith("FAILED") and (details := _details(final)):
        why += f" ({details})"
    return (
        final["final"],
        state,
        str(final["attempts"]),
        _seconds(final["startedAt"]),
        _seconds(final["stoppedAt"]),
        why,
    )


def _details(final: Mapping[str, Any]) -> str:
    """What the container said of its end; of an array, for each way in which children failed."""
    if "failures" not in final:
        return _end_in_words(final)
    told = [
        f"{shortened(one['indexes'], INDEXES_SHOWN_MAX)}: {_of_child(one)}"
        for one in final["failures"]
    ]
    return listed(told, between="; ")


def _of_child(failure: Mapping[str, Any]) -> str:
    why = failure.get("statusReason", EXITED)
    return ", ".join(filter(None, [why if why != EXITED else "", _end_in_words(failure)]))


def _end_in_words(end: Mapping[str, Any]) -> str:
    code = end.get("exitCode")
    parts = [f"exit code {code}" if code is not None else "", end.get("reason") or ""]
    return ", ".join(filter(None, parts))


def _waiting_rows(waiting: Mapping[str, Json]) -> Iterable[str]:
    for queue, those in waiting.items():
        if those["started"]:
            yield f"{queue}: median {those['p50']:g} s, longest {those['max']:g} s"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:g} s"
