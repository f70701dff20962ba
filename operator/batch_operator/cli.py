"""The command `batch-operator`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import yaml

from batch_operator.api.crd import custom_resource_definitions

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
    from batch_operator.lifecycle.evaluate import Policy  # noqa: PLC0415
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
    verbs = parser.add_subparsers(required=True, metavar="run|crds")
    verb = verbs.add_parser("run", help="run the operator", description=run.__doc__)
    verb.set_defaults(action=run)
    verb.add_argument("--kubeconfig", help="default: the Pod's service account, or KUBECONFIG")
    verb.add_argument("--context", help="the kubeconfig's context (default: its current one)")
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
        help="how long a container may fail to start (image pull) before the attempt is given up",
    )
    verb = verbs.add_parser("crds", help="print or write the CRDs", description=crds.__doc__)
    verb.set_defaults(action=crds)
    verb.add_argument("--output", type=Path, help="folder to write to")
    verb.add_argument("--check", action="store_true", help="only say whether --output is fresh")
    return parser
