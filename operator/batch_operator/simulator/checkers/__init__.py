"""One file per invariant of the product, each read from what the API server accepted.

A checker knows the wire format and the rules, and nothing of the operator: what it says holds for
any implementation. `Panel` shows every write to all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.simulator.checkers.at_most_one_live_attempt import AtMostOneLiveAttempt
from batch_operator.simulator.checkers.attempts_within_limit import AttemptsWithinLimit
from batch_operator.simulator.checkers.capacity_never_exceeded import CapacityNeverExceeded
from batch_operator.simulator.checkers.checker import OPERATOR, Checker, End, Violation
from batch_operator.simulator.checkers.costs_add_up import CostsAddUp
from batch_operator.simulator.checkers.counts_add_up import CountsAddUp
from batch_operator.simulator.checkers.dependencies_before_start import DependenciesBeforeStart
from batch_operator.simulator.checkers.fixpoint import Fixpoint
from batch_operator.simulator.checkers.legal_transitions import LegalTransitions
from batch_operator.simulator.checkers.no_node_left_behind import NoNodeLeftBehind
from batch_operator.simulator.checkers.no_start_after_cancel import NoStartAfterCancel
from batch_operator.simulator.checkers.nodes_in_order import NodesInOrder
from batch_operator.simulator.checkers.object_size import ObjectSize
from batch_operator.simulator.checkers.placed_or_held import PlacedOrHeld
from batch_operator.simulator.checkers.rerun_set_is_fixed import RerunSetIsFixed
from batch_operator.simulator.checkers.terminal_is_final import TerminalIsFinal
from batch_operator.simulator.checkers.units_accounted_for import UnitsAccountedFor
from batch_operator.simulator.virtual_time import PLAIN

if TYPE_CHECKING:
    from batch_operator.simulator.api_server import Write
    from batch_operator.simulator.trace import Transition
    from batch_operator.simulator.virtual_time import Calendar

__all__ = ["OPERATOR", "Checker", "End", "Panel", "Violation"]

VIOLATIONS_MAX = 20
"""More than that say nothing new."""


class Panel:
    """All checkers, and what they have found.

    `notice_s` is how long the operator may take to learn of what people ask for.
    """

    def __init__(self, notice_s: float = 5.0, calendar: Calendar = PLAIN) -> None:
        self.violations: list[Violation] = []
        self._transitions = LegalTransitions()
        self._checkers: tuple[Checker, ...] = (
            AtMostOneLiveAttempt(),
            TerminalIsFinal(),
            AttemptsWithinLimit(),
            DependenciesBeforeStart(),
            CapacityNeverExceeded(notice_s),
            UnitsAccountedFor(notice_s),
            NoStartAfterCancel(notice_s),
            NodesInOrder(),
            NoNodeLeftBehind(),
            CountsAddUp(),
            CostsAddUp(calendar),
            RerunSetIsFixed(),
            ObjectSize(),
            PlacedOrHeld(),
            Fixpoint(),
        )

    def see(self, write: Write) -> None:
        for checker in self._checkers:
            for sentence in checker.see(write):
                self.add(checker.name, write.at_s, sentence)

    def see_transition(self, transition: Transition) -> None:
        for sentence in self._transitions.see(transition):
            self.add(self._transitions.name, transition.at_s, sentence)

    def finish(self, end: End) -> None:
        for checker in self._checkers:
            for sentence in checker.finish(end):
                self.add(checker.name, end.at_s, sentence)

    def add(self, invariant: str, at_s: float, sentence: str) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(invariant, at_s, sentence))
