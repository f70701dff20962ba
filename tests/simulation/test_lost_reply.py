"""The reply to a create is lost, the Pod is there: its capacity stays taken all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import PODS, ApiError
from batch_operator.simulator import run as run_module
from batch_operator.simulator.api_client import Distance, SimulatedApiClient
from support.play import play

if TYPE_CHECKING:
    import pytest

    from batch_operator.simulator.api_server import ApiServer
    from batch_operator.simulator.calls import Call
    from batch_operator.simulator.line import Line


class ForgetfulApiClient(SimulatedApiClient):
    """Loses the reply to the first Pod, and hears of everything five seconds late."""

    def __init__(self, server: ApiServer, actor: str, line: Line) -> None:
        super().__init__(server, actor, line, Distance(watch_lag_s=5.0))
        self._lost = False

    async def answer(self, call: Call) -> Any:
        reply = await super().answer(call)
        if (call.verb, call.resource) == ("create", PODS) and not self._lost:
            self._lost = True
            raise ApiError(0, "NoReply", "the connection broke")
        return reply


def test_capacity_stays_taken_while_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SimulatedApiClient", ForgetfulApiClient)
    played = play({"first": {}, "second": {}}, max_vcpus=1)

    assert [str(one) for one in played.outcome.violations] == []
