"""JSON merge patch (RFC 7386), and strategic merge patch as far as Pods and Jobs need it.

Objects are values: a patch returns a new object that shares what it did not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DELETE_FROM = "$deleteFromPrimitiveList/"
_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "schedulingGates": "name",
}
"""Lists of objects that Kubernetes merges element by element, and what tells elements apart."""
_MERGED_PRIMITIVES = frozenset({"finalizers"})
_REPLACED = frozenset({"args", "command", "tolerations", "taints", "containerStatuses"})


class UnknownListError(Exception):
    """A strategic patch touches a list whose merge rule is not modelled: add it to this module."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Kubernetes' strategic merge patch.

    Raises:
        UnknownListError: for a list whose rule is not modelled here.
    """
    merged = dict(target)
    for name, value in patch.items():
        if name.startswith(_DELETE_FROM):
            name_of_list = name.removeprefix(_DELETE_FROM)
            left = [one for one in merged.get(name_of_list, ()) if one not in value]
            merged[name_of_list] = left
            if not left:
                del merged[name_of_list]
        elif name.startswith("$"):
            raise UnknownListError(f"directive {name} is not modelled")
        elif value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            known = merged.get(name)
            merged[name] = strategic_merge_patch(known if isinstance(known, dict) else {}, value)
        elif isinstance(value, list):
            merged[name] = _merged_list(name, merged.get(name) or [], value)
        else:
            merged[name] = value
    return merged


def _merged_list(name: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if name in _MERGED_PRIMITIVES:
        return [*target, *(one for one in patch if one not in target)]
    if name in _REPLACED:
        return patch
    key = _MERGE_KEYS.get(name)
    if key is None:
        raise UnknownListError(f"how a list {name} is merged is not modelled")
    merged = {one[key]: one for one in target}
    for one in patch:
        if one.get("$patch") == "delete":
            merged.pop(one[key], None)
        else:
            merged[one[key]] = strategic_merge_patch(merged.get(one[key], {}), one)
    return list(merged.values())
