"""Counts writes in the API server's audit log."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Write = tuple[str, str]
"""Verb, and resource with its subresource, such as `update batchjobs/status`."""


class AuditLog:
    """Writes that were accepted since the last count, by user agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def count(self, agent: str) -> Counter[Write]:
        """Writes of the programs whose user agent starts with `agent`."""
        found: Counter[Write] = Counter()
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                entry = json.loads(line)
                code = entry.get("responseStatus", {}).get("code", 0)
                if entry.get("userAgent", "").startswith(agent) and code < 300:
                    what = entry["objectRef"]
                    part = f"/{what['subresource']}" if what.get("subresource") else ""
                    found[entry["verb"], f"{what['resource']}{part}"] += 1
            self._offset = file.tell()
        return found
