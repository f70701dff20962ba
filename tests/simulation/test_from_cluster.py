"""`--from-cluster` and `snapshot`: a cluster is read over HTTP, and only read."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator import cli
from support.simulated import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY = ROOT / "examples" / "snapshots" / "busy.yaml"


@dataclass
class Cluster:
    """An API server that holds the objects of a snapshot and can be asked for lists."""

    items: list[dict[str, Any]]
    kubeconfig: Path
    refuses: int = 0
    asked: list[str] = field(default_factory=list)

    def reply(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.refuses:
            message = "batchjobs.batch-operator.io is forbidden"
            return self.refuses, {"kind": "Status", "code": self.refuses, "message": message}
        kind = path.partition("?")[0].rpartition("/")[2]
        items = [one for one in self.items if f"{one['kind'].lower()}s" == kind]
        bare = [{name: one[name] for name in one if name != "kind"} for one in items]
        return 200, {"metadata": {"resourceVersion": "7"}, "items": bare}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    items = yaml.safe_load(BUSY.read_text(encoding="utf-8"))["items"]
    cluster = Cluster(items, tmp_path / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cluster.asked.append(f"{self.command} {self.path}")
            status, value = cluster.reply(self.path)
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [
            {"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "me", "user": {}}],
    }
    cluster.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    yield cluster
    server.shutdown()
    server.server_close()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["batch-operator", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_cluster_is_simulated_without_a_write(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        monkeypatch,
        "simulate",
        "--from-cluster",
        f"--kubeconfig={cluster.kubeconfig}",
        "--set",
        "ce/local.maxvCpus=4",
    )

    assert code == 0
    # When it was read is long after the snapshot: what ran then has run for long enough.
    assert "jobs SUCCEEDED" in capsys.readouterr().out
    assert {one.split()[0] for one in cluster.asked} == {"GET"}
    assert not [one for one in cluster.asked if "secrets" in one or "watch" in one]


def test_a_saved_snapshot_answers_as_the_cluster_does(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert run(monkeypatch, "snapshot", f"--kubeconfig={cluster.kubeconfig}") == 0
    path = tmp_path / "snapshot.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    cluster.items.clear()  # the file is all that is left
    assert run(monkeypatch, "simulate", "--snapshot", str(path), "-o", "json") == 0
    said = json.loads(capsys.readouterr().out)

    assert said["before"]["jobs"] == {"SUCCEEDED": 6, "FAILED": 0}
    assert said["before"]["waiting"]["main"]["started"] == 5


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "the cluster cannot be read: batchjobs.batch-operator.io is forbidden"),
        (404, "the cluster cannot be read: batch-operator is not installed in it"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_a_sentence(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    sentence: str,
) -> None:
    cluster.refuses = status

    assert run(monkeypatch, "simulate", "--from-cluster", f"--kubeconfig={cluster.kubeconfig}") == 2
    assert run(monkeypatch, "snapshot", f"--kubeconfig={cluster.kubeconfig}") == 2
    assert capsys.readouterr().err == f"error: {sentence}\n" * 2
