"""The command `batch-operator`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from batch_operator.api.crd import custom_resource_definitions

if TYPE_CHECKING:
    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.report import Outcome
    from batch_operator.simulator.what_if import Answer

_HEADER = "# Generated from operator/batch_operator/api by `batch-operator crds`; do not edit.\n"


def main() -> None:
    """Parse the command line and run what it asks for."""
    arguments = _parser().parse_args()
    sys.exit(arguments.action(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Run the operator until it is told to end."""
    # Imported here: the other commands need neither kopf nor a cluster.
    from batch_operator.cluster.credentials import NoCredentialsError, load  # noqa: PLC0415
    from batch_operator.controllers import operator  # noqa: PLC0415
    from batch_operator.lifecycle.stops import Policy  # noqa: PLC0415
    from batch_operator.observability import logs  # noqa: PLC0415

    logs.set_up(as_json=arguments.log_format == "json", level=arguments.log_level)
    try:
        credentials = load(arguments.kubeconfig, arguments.context)
    except NoCredentialsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    settings = operator.Settings(
        credentials=credentials,
        port=arguments.port,
        policy=Policy(start_failure_grace_s=arguments.start_failure_grace),
    )
    asyncio.run(operator.run(settings))
    return 0


def snapshot(arguments: argparse.Namespace) -> int:
    """Print everything of batch-operator in a cluster as one List, to simulate from later."""
    from batch_operator.simulator.scenario import InvalidInputError  # noqa: PLC0415

    try:
        taken = _taken_from_cluster(arguments)
    except InvalidInputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps(taken, ensure_ascii=False, indent=2) + "\n")
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """Run manifests, or a cluster as it is, in virtual time, and say what comes of it."""
    from batch_operator.simulator.run import simulate as run_simulation  # noqa: PLC0415
    from batch_operator.simulator.scenario import InvalidInputError, read_scenario  # noqa: PLC0415

    if arguments.from_cluster or arguments.snapshot:
        return _what_if(arguments)
    if not arguments.path or arguments.set:
        missing = "--set changes a snapshot" if arguments.path else "PATH is missing"
        sys.stderr.write(f"error: {missing}: give --snapshot FILE or --from-cluster\n")
        return 2
    try:
        outcome = run_simulation(
            read_scenario(arguments.path),
            seed=arguments.seed,
            until_s=arguments.until,
            faults=arguments.faults,
            crash=arguments.crash,
        )
    except InvalidInputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    is_json = arguments.output == "json"
    return _told(outcome, outcome.json_lines() if is_json else outcome.table())


def _what_if(arguments: argparse.Namespace) -> int:
    from batch_operator.simulator.changes import changed  # noqa: PLC0415
    from batch_operator.simulator.recorded import read_recorded  # noqa: PLC0415
    from batch_operator.simulator.scenario import InvalidInputError, read_scenario  # noqa: PLC0415
    from batch_operator.simulator.what_if import what_if  # noqa: PLC0415

    try:
        recorded = read_recorded(*_snapshot(arguments))
        answer = what_if(
            changed(read_scenario(arguments.path, recorded), arguments.set),
            seed=arguments.seed,
            until_s=arguments.until,
            faults=arguments.faults,
            crash=arguments.crash,
        )
    except InvalidInputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return _told(answer, answer.json_line() if arguments.output == "json" else answer.table())


def _told(result: Outcome | Answer, text: str) -> int:
    """Say what came of a simulation; the exit code for it."""
    sys.stdout.write(text)
    for violation in result.violations:
        sys.stderr.write(f"broken: {violation}\n")
    return result.exit_code


def _snapshot(arguments: argparse.Namespace) -> tuple[list[Any], str]:
    """The documents of a snapshot, and what to call it."""
    from batch_operator.simulator.recorded import parsed  # noqa: PLC0415
    from batch_operator.simulator.scenario import InvalidInputError  # noqa: PLC0415

    name = arguments.snapshot
    if name is None:
        return [_taken_from_cluster(arguments)], "the cluster"
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{name}: cannot be read: {error}") from None
    where = "stdin" if name == "-" else name
    return parsed(text, where), where


def _taken_from_cluster(arguments: argparse.Namespace) -> dict[str, Any]:
    from batch_operator.cluster.client import ApiError  # noqa: PLC0415
    from batch_operator.cluster.clock import SystemClock  # noqa: PLC0415
    from batch_operator.cluster.credentials import NoCredentialsError, load  # noqa: PLC0415
    from batch_operator.cluster.http_client import HttpApiClient  # noqa: PLC0415
    from batch_operator.cluster.listing import Progress, read_cluster  # noqa: PLC0415
    from batch_operator.simulator.scenario import InvalidInputError  # noqa: PLC0415

    async def read() -> dict[str, Any]:
        clock = SystemClock()
        async with HttpApiClient(load(arguments.kubeconfig, arguments.context), clock) as client:
            return await read_cluster(client, clock, Progress(clock, sys.stderr.write))

    try:
        return asyncio.run(read())
    except NoCredentialsError as error:
        raise InvalidInputError(str(error)) from None
    except ApiError as error:
        why = "batch-operator is not installed in it" if error.is_not_found else error.message
        raise InvalidInputError(f"the cluster cannot be read: {why}") from None


def crds(arguments: argparse.Namespace) -> int:
    """Print the CustomResourceDefinitions, write them to a folder, or check such a folder."""
    texts = {name: crd_text(name) for name in custom_resource_definitions()}
    folder: Path | None = arguments.output
    if folder is None:
        sys.stdout.write("---\n".join(texts.values()))
        return 0
    if arguments.check:
        stale = [
            name
            for name, text in texts.items()
            if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
        ]
        if stale:
            sys.stderr.write(
                f"{', '.join(stale)} in {folder} are not what the models say: "
                f"run batch-operator crds --output {folder}\n"
            )
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def crd_text(name: str) -> str:
    """One CRD as the text of its file."""
    definition = custom_resource_definitions()[name]
    return _HEADER + yaml.safe_dump(definition, sort_keys=False, width=100, allow_unicode=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batch-operator", description="AWS Batch semantics on any Kubernetes cluster."
    )
    verbs = parser.add_subparsers(required=True, metavar="run|simulate|snapshot|crds")
    verb = verbs.add_parser("run", help="run the operator", description=run.__doc__)
    verb.set_defaults(action=run)
    _add_credentials(verb)
    verb.add_argument(
        "--port", type=int, default=8080, help="for /healthz, /readyz and /metrics; 0: none"
    )
    verb.add_argument("--log-format", choices=["json", "plain"], default="json")
    verb.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    verb.add_argument(
        "--start-failure-grace",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a container may fail to start (image pull) before the attempt is given up, "
        "counted from when its init containers are over; "
        "ten times that if its volumes or its network cannot be set up",
    )
    _add_simulate(verbs)
    verb = verbs.add_parser(
        "snapshot", help="print a cluster for simulate", description=snapshot.__doc__
    )
    verb.set_defaults(action=snapshot)
    _add_credentials(verb)
    verb = verbs.add_parser("crds", help="print or write the CRDs", description=crds.__doc__)
    verb.set_defaults(action=crds)
    verb.add_argument("--output", type=Path, help="folder to write to")
    verb.add_argument("--check", action="store_true", help="only say whether --output is fresh")
    return parser


def _add_credentials(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--kubeconfig", help="default: the Pod's service account, or KUBECONFIG")
    verb.add_argument("--context", help="the kubeconfig's context (default: its current one)")


def _add_simulate(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verb = verbs.add_parser(
        "simulate",
        help="run manifests, or a cluster as it is, in virtual time",
        description=simulate.__doc__,
        epilog="A Scenario says what containers do and what happens when: docs/simulator.md, "
        "examples/scenarios. Exit codes: 0, every invariant held; 2, the input is wrong; 3, an "
        "invariant was broken.",
    )
    verb.set_defaults(action=simulate)
    verb.add_argument(
        "path", nargs="*", type=Path, metavar="PATH", help="manifests and Scenarios: files, folders"
    )
    begin = verb.add_mutually_exclusive_group()
    begin.add_argument(
        "--from-cluster",
        action="store_true",
        help="begin with the cluster as it is now; PATH and --set are what is changed",
    )
    begin.add_argument(
        "--snapshot", metavar="FILE", help="the same with a saved snapshot; -: standard input"
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KIND/NAME.FIELD=VALUE",
        help="change a field of the snapshot, such as computeenvironment/spot.maxvCpus=512",
    )
    _add_credentials(verb)
    verb.add_argument(
        "--until", type=_duration_s, metavar="2h", help="stop at that virtual time at the latest"
    )
    verb.add_argument("--seed", type=int, default=0, help="decides whatever is left to chance")
    verb.add_argument("-o", dest="output", choices=["table", "json"], default="table")
    verb.add_argument(
        "--faults", action="store_true", help="let API calls and watches fail by seed"
    )
    verb.add_argument(
        "--crash", type=_crash, metavar="before:N|after:N", help="the operator dies at its write N"
    )


def _duration_s(text: str) -> float:
    from batch_operator.simulator.scenario import duration_s  # noqa: PLC0415

    try:
        return duration_s(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _crash(text: str) -> Crash:
    from batch_operator.simulator.process import Crash, When  # noqa: PLC0415

    when, _, number = text.partition(":")
    if when not in set(When) or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write before:N or after:N")
    return Crash(int(number), When(when))
