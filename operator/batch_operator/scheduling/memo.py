"""What one cycle leaves for the next to save it work.

A memo holds nothing that cannot be computed from a snapshot: a cycle with an empty memo, on a
snapshot in which everything counts as changed, decides the same. It exists because a cycle's cost
must follow what changed and what starts, not how many jobs there are. The exceptions are what was
learned of run times, of which definitions' statuses hold the essence (see `run_times`), what
children of arrays cost on nodes that are gone, or of types that are listed no more (see `costs`),
and what no node took (see `misfits` and `unplaced`).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from batch_operator.api.job import JobState
from batch_operator.lifecycle.states import FINAL
from batch_operator.scheduling.backlog import Backlog
from batch_operator.scheduling.ledger import Ledger
from batch_operator.scheduling.nodes_memo import NodesMemo
from batch_operator.scheduling.outlook import Outlook
from batch_operator.scheduling.run_times import RunTimes
from batch_operator.scheduling.terms import TermsOfCycle
from batch_operator.scheduling.unplaced import Unplaced
from batch_operator.scheduling.upstreams import Upstreams

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.job import BatchJobStatus
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.backlog import Lot
    from batch_operator.scheduling.consumables import Wishes
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.queues import Impasse
    from batch_operator.scheduling.shares import Charge, ShareBook
    from batch_operator.scheduling.snapshot import Job, Key

K = TypeVar("K")
OPEN_STATES = tuple(state for state in JobState if state not in FINAL)


class Memo:
    """The last look at every open job, and sums and orders over these looks."""

    def __init__(self) -> None:
        self.is_empty = True
        self.to_look: dict[str, None] = {}
        """Jobs that are still to be looked at, in order: a cycle's work is bounded."""
        self.is_administered = self.is_surveyed = False
        """Surveyed: every job has been looked at once; before that nothing can be placed."""
        self.to_compose: dict[str, None] = {}
        """Jobs whose status is still to be composed."""
        self.looks: dict[str, Evaluation] = {}
        self.expected: dict[str, BatchJobStatus] = {}
        """By job, a status with which a look at it would find the same again (`expect`)."""
        self.terms = TermsOfCycle()
        self.run_times = RunTimes()
        self.plans: dict[str, Plan] = {}
        self.outlook = Outlook()
        self.impasses: dict[str, Impasse] = {}
        """By queue that something stops."""
        self.backlogs: dict[str, Backlog] = defaultdict(Backlog)
        """By queue, as the totals below: of queues that open jobs name, whether they exist or not,
        and of no others."""
        self.used_milli: Counter[str] = Counter()
        """By compute environment, what live attempts hold."""
        self.used_units: Counter[str] = Counter()
        """By consumable resource, likewise."""
        self.nodes = NodesMemo()
        self.unplaced = Unplaced()
        self.wishes: Wishes = {}
        """Units that the last cycle wants to have granted."""
        self.books: dict[str, ShareBook] = {}
        """By queue that has a scheduling policy."""
        self.ledger = Ledger()
        self._charged_in: dict[str, str] = {}  # by job: the queue in whose book it is
        self.upstreams = Upstreams()
        self.proven: dict[str, set[str]] = defaultdict(set)
        """By namespace: jobs from which no circle of dependencies can be reached."""
        self.by_queue: dict[str, set[str]] = defaultdict(set)
        self.by_definition: dict[Key, set[str]] = defaultdict(set)
        self.by_consumable: dict[str, set[str]] = defaultdict(set)
        self.queue_totals: dict[str, Counter[JobState]] = defaultdict(Counter)
        self.touched_queues: dict[str, None] = {}
        self.touched_environments: dict[str, None] = {}
        """Their statuses are due; in order, for a cycle sees to so many at most."""
        self.touched_consumables: set[str] = set()
        self.touched_definitions: set[Key] = set()
        self.revision_users: Counter[tuple[str, str, int]] = Counter()
        """Open jobs by namespace, definition and revision that they run."""
        self._revision_of: dict[str, tuple[str, str, int]] = {}
        self._usage: dict[str, Mapping[str, int]] = {}
        self._held: dict[str, Mapping[str, int]] = {}
        self._totals: dict[str, tuple[str, Mapping[JobState, int]]] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._deadline_of: dict[str, datetime] = {}

    def remember(self, look: Evaluation, lots: Sequence[Lot]) -> None:
        """Keep a look at a job, and its places in its queue, in place of the ones before."""
        job = look.job
        self.expected.pop(job.uid, None)
        before = self.looks.get(job.uid)
        if before is None:
            self._meet(job)
        running = before.children.running if before is not None else None
        self.outlook.moves += look.children.newly_ended != () or look.children.running != running
        self.looks[job.uid] = look
        if look.plan is not None:
            self.plans[job.uid] = look.plan
        self._use_revision(job)
        for name, _ in look.plan.units if look.plan is not None else ():
            self.by_consumable[name].add(job.uid)
        self._set_usage(job.uid, look.usage)
        self.nodes.unplanned.update(look.usage)
        self._set_held(job.uid, look.held)
        self.outlook.moves += self.backlogs[job.spec.job_queue].set(job.uid, lots)
        self.watch_deadline(job.uid, look.look_again_at)

    def expect(self, look: Evaluation, status: BatchJobStatus | None) -> None:
        """A look calls for a new status: once that is stored, spare the look that would confirm it.

        A look reads of a status what has been counted and recorded, which children are past their
        dependencies, and how long they have waited. Where it reads nothing of these it finds the
        same again.
        """
        job, array = look.job, look.job.spec.array_properties
        counts = look.ending or look.children.newly_ended or (look.plan and look.plan.hold)
        awaits = job.spec.depends_on or (array and array.rerun_failed_of)
        if status is None or counts or awaits or look.limits.rules:
            self.expected.pop(job.uid, None)
        else:
            self.expected[job.uid] = status

    def is_as_expected(self, job: Job) -> bool:
        """Whether only what was expected has been stored; then the last look stands for this."""
        if self.expected.pop(job.uid, None) != job.status:
            return False
        self.looks[job.uid] = replace(self.looks[job.uid], job=job)
        return True

    def live(self) -> list[Evaluation]:
        """The looks at jobs of which something runs, in order of submission."""
        return self._live(self._usage)

    def stranded(self) -> list[Evaluation]:
        """Those of which something gives way since no node takes it, in the same order."""
        return self._live(self.unplaced.by_job)

    def kind_turned(self, job: Job) -> None:
        """Have jobs of the same definition looked at: nodes take that kind, or they do not."""
        definition = job.spec.job_definition.partition(":")[0]
        uids = self.by_definition.get((job.namespace, definition), ())
        self.to_look.update(dict.fromkeys(sorted(uids)))

    def _live(self, uids: Iterable[str]) -> list[Evaluation]:
        looks = (self.looks.get(uid) for uid in uids)
        found = [look for look in looks if look is not None and look.children.live]
        return sorted(found, key=lambda look: (look.job.created_at, look.job.uid))

    def _meet(self, job: Job) -> None:
        """Note what a job names, which never changes."""
        self.by_queue[job.spec.job_queue].add(job.uid)
        definition = job.spec.job_definition.partition(":")[0]
        self.by_definition[job.namespace, definition].add(job.uid)
        self.upstreams.meet(job)

    def forget(self, uid: str, usage: Mapping[str, int]) -> None:
        """Drop a job that is over or gone; `usage` is what Pods of it that still run hold."""
        self._set_usage(uid, usage)
        self._set_held(uid, {})
        self.watch_deadline(uid, None)
        self.expected.pop(uid, None)
        self.unplaced.forget(uid)
        plan = self.plans.pop(uid, None)
        for name, _ in plan.units if plan is not None else ():
            _discard(self.by_consumable, name, uid)
            self.touched_consumables.add(name)  # what it was granted is spent
        self.count_states(uid, None)
        look = self.looks.pop(uid, None)
        if look is None:
            return
        job = look.job
        self.outlook.moves += self.backlogs[job.spec.job_queue].set(uid, ())
        self._unuse_revision(uid)
        _discard(self.by_queue, job.spec.job_queue, uid)
        definition = job.spec.job_definition.partition(":")[0]
        _discard(self.by_definition, (job.namespace, definition), uid)
        if (job.namespace, definition) not in self.by_definition:
            self.unplaced.forget_definition(job.namespace, definition)
        self.upstreams.forget(job)
        if job.spec.job_queue not in self.by_queue:
            for known in (self.backlogs, self.impasses, self.queue_totals):
                known.pop(job.spec.job_queue, None)

    def blocked_as(self, job: Job) -> Blocked | None:
        """What the last cycle found in the way of a job that is not just behind others."""
        queue = job.spec.job_queue
        impasse = self.impasses.get(queue)
        return impasse.found_for(job.uid, self.backlogs[queue]) if impasse is not None else None

    def set_aside(self, uid: str) -> None:
        """Start nothing of a job that could not be looked at."""
        if look := self.looks.get(uid):
            self.backlogs[look.job.spec.job_queue].set(uid, ())

    def charge(self, uid: str, queue: str, charge: Charge | None) -> None:
        """Put what a job counts against its share into its queue's book."""
        if charge is None:
            self._charged_in.pop(uid, None)
        else:
            self._charged_in[uid] = queue
        self.books[queue].set(uid, charge)

    def uncharge_deleted(self, uid: str, now: datetime) -> None:
        """A job exists no more: what it has used is not forgotten with it."""
        queue = self._charged_in.pop(uid, None)
        if queue in self.books and self.books[queue].delete(uid, now):
            self.touched_queues[queue] = None

    def watch_deadline(self, uid: str, at: datetime | None) -> None:
        """Have the job looked at again at that time, instead of at the one set before."""
        if at is None:
            self._deadline_of.pop(uid, None)
        elif self._deadline_of.get(uid) != at:
            self._deadline_of[uid] = at
            heapq.heappush(self._deadlines, (at, uid))

    def due(self, now: datetime) -> set[str]:
        """Take the jobs whose time to be looked at again has come."""
        found: set[str] = set()
        while (at := self.next_deadline()) is not None and at <= now:
            _, uid = heapq.heappop(self._deadlines)
            del self._deadline_of[uid]
            found.add(uid)
        return found

    def next_deadline(self) -> datetime | None:
        while self._deadlines:
            at, uid = self._deadlines[0]
            if self._deadline_of.get(uid) == at:
                return at
            heapq.heappop(self._deadlines)  # replaced or withdrawn since
        return None

    def _use_revision(self, job: Job) -> None:
        """Note which revision an open job runs, once it has been given one."""
        given = job.status.job_definition
        plan = self.plans.get(job.uid)
        if job.uid in self._revision_of or not (given or plan):
            return
        name, _, number = (given or (plan.definition if plan else "")).partition(":")
        used = (job.namespace, name, int(number))
        self._revision_of[job.uid] = used
        self.revision_users[used] += 1

    def _unuse_revision(self, uid: str) -> None:
        used = self._revision_of.pop(uid, None)
        if used is None:
            return
        self.revision_users[used] -= 1
        if not self.revision_users[used]:
            del self.revision_users[used]
            self.touched_definitions.add(used[:2])

    def count_states(self, uid: str, counts: tuple[str, Mapping[JobState, int]] | None) -> None:
        """Put a job's children by state into its queue's totals; a plain job counts as one."""
        before = self._totals.pop(uid, None)
        if counts:
            self._totals[uid] = counts
        for sign, one in ((-1, before), (1, counts)) if before != counts else ():
            if one is not None:
                _add(self.queue_totals[one[0]], one[1], sign)
                self.touched_queues[one[0]] = None

    def _set_usage(self, uid: str, usage: Mapping[str, int]) -> None:
        before = self._usage.get(uid, {})
        if before == usage:
            return
        self.outlook.moves += 1
        _add(self.used_milli, before, -1)
        _add(self.used_milli, usage, 1)
        self.touched_environments |= dict.fromkeys((*before, *usage))
        if usage:
            self._usage[uid] = usage
        else:
            self._usage.pop(uid, None)

    def _set_held(self, uid: str, held: Mapping[str, int]) -> None:
        before = self._held.get(uid, {})
        if before == held:
            return
        self.outlook.moves += 1
        _add(self.used_units, before, -1)
        _add(self.used_units, held, 1)
        self.touched_consumables.update(before, held)
        if held:
            self._held[uid] = held
        else:
            self._held.pop(uid, None)


def _add(counter: Counter[K], counts: Mapping[K, int], sign: int) -> None:
    """As `Counter.update` and `subtract`, which are slow for the few keys that a job has."""
    for key, count in counts.items():
        counter[key] += sign * count


def _discard(index: dict[K, set[str]], key: K, uid: str) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(uid)
        if not members:
            del index[key]
