"""Keys and directories: get, ls, set, mk, update, rm and their directory forms; backup."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from corum.cli.etcdctl_v2.api import EXIT_MISSING_ARGUMENT, EXIT_SERVER, Answer, ApiError, error

if TYPE_CHECKING:
    from collections.abc import Callable

    from corum.cli.etcdctl_v2.commands import Run

GONE = ("delete", "compareAndDelete", "expire")
OUTPUTS = ("simple", "extended", "json")


def _key(run: Run) -> str:
    if not run.arguments:
        raise error(EXIT_MISSING_ARGUMENT, "key required")
    return run.arguments[0]


def _value(run: Run) -> str:
    """The second argument, or all of a stdin that somebody feeds."""
    if len(run.arguments) > 1:
        return run.arguments[1]
    value = "" if sys.stdin.isatty() else sys.stdin.read()
    if not value:
        raise error(EXIT_MISSING_ARGUMENT, "value required")
    return value


def keys_path(key: str) -> str:
    return "/v2/keys/" + key.lstrip("/")


def asked(call: Callable[[], Answer]) -> Answer:
    """The answer; a refusal ends the program with status 4 and etcd's words."""
    try:
        return call()
    except ApiError as refusal:
        raise error(EXIT_SERVER, refusal.key_text()) from None


def _write(run: Run, verb: str, key: str, *, quiet: bool = False, **fields: str | None) -> None:
    form = {name: value for name, value in fields.items() if value is not None}
    ttl = run.values.integer("ttl") if "ttl" in run.values else 0
    if ttl:
        form["ttl"] = str(ttl)
    query = {
        name: form.pop(name)
        for name in ("prevExist", "prevIndex", "prevValue", "dir")
        if name in form
    }
    compares = query.get("prevExist") == "false" or bool(query.keys() & {"prevIndex", "prevValue"})
    answer = asked(
        lambda: run.api.request(
            verb, keys_path(key), query=query or None, form=form, once=verb == "POST" or compares
        )
    )
    if not quiet or run.output != "simple":
        show(run, answer)


def set_value(run: Run) -> None:
    key, value = _key(run), _value(run)
    index = run.values.integer("swap-with-index")
    _write(
        run, "PUT", key, value=value,
        prevValue=run.values.string("swap-with-value") or None,
        prevIndex=str(index) if index else None,
    )  # fmt: skip


def mk(run: Run) -> None:
    key, value = _key(run), _value(run)
    if run.values.boolean("in-order"):
        _write(run, "POST", key, value=value)
    else:
        _write(run, "PUT", key, value=value, prevExist="false")


def update(run: Run) -> None:
    _write(run, "PUT", _key(run), value=_value(run), prevExist="true")


def mkdir(run: Run) -> None:
    _write(run, "PUT", _key(run), quiet=True, dir="true", prevExist="false")


def setdir(run: Run) -> None:
    _write(run, "PUT", _key(run), quiet=True, dir="true")


def updatedir(run: Run) -> None:
    _write(run, "PUT", _key(run), quiet=True, dir="true", prevExist="true")


def rmdir(run: Run) -> None:
    key = _key(run)
    answer = asked(
        lambda: run.api.request("DELETE", keys_path(key), query={"dir": "true"}, once=True)
    )
    if run.output != "simple" or not answer.json()["node"].get("dir"):
        show(run, answer)


def rm(run: Run) -> None:
    key, values = _key(run), run.values
    query: dict[str, str] = {}
    for name in ("dir", "recursive"):
        if values.boolean(name):
            query[name] = "true"
    if values.string("with-value"):
        query["prevValue"] = values.string("with-value")
    if values.integer("with-index"):
        query["prevIndex"] = str(values.integer("with-index"))
    answer = asked(
        lambda: run.api.request("DELETE", keys_path(key), query=query or None, once=True)
    )
    body = answer.json()
    if run.output != "simple" or not body["node"].get("dir"):
        show(run, answer)


def get(run: Run) -> int:
    key = _key(run)
    query = _read_query(run, recursive=False)
    answer = asked(lambda: run.api.get(keys_path(key), query))
    node: dict[str, Any] = answer.json()["node"]
    if node.get("dir"):
        sys.stderr.write(f"{node.get('key', '')}: is a directory\n")
        return 1
    show(run, answer)
    return 0


def _read_query(run: Run, *, recursive: bool) -> dict[str, str]:
    return {
        "quorum": "true" if run.values.boolean("quorum") else "false",
        "recursive": "true" if recursive else "false",
        "sorted": "true" if run.values.boolean("sort") else "false",
    }


def ls(run: Run) -> None:
    key = run.arguments[0] if run.arguments else "/"
    query = _read_query(run, recursive=run.values.boolean("recursive"))
    answer = asked(lambda: run.api.get(keys_path(key), query))
    if run.output != "simple":
        show(run, answer)
        return
    node: dict[str, Any] = answer.json()["node"]
    if not node.get("dir"):
        print(node["key"])
    _list_below(node, slashes=run.values.boolean("p"))


def _list_below(node: dict[str, Any], *, slashes: bool) -> None:
    children: list[dict[str, Any]] = node.get("nodes") or []
    for child in children:
        print(child["key"] + ("/" if slashes and child.get("dir") else ""))
        _list_below(child, slashes=slashes)


# Output --------------------------------------------------------------------------------------


def show(run: Run, answer: Answer) -> None:
    show_event(run.output, answer.json(), answer.index)


def show_event(output: str, body: dict[str, Any], index: int) -> None:
    """One answer or event in an output format."""
    if output not in OUTPUTS:
        sys.stderr.write(f"Unsupported output format: {output}\n")
        return
    node: dict[str, Any] = body["node"]
    previous: dict[str, Any] | None = body.get("prevNode")
    if output == "json":
        whole = {"action": body["action"], "node": _node(node)}
        print(_go_json({**whole, "prevNode": _node(previous) if previous else None}))
        return
    if output == "extended":
        print(f"Key: {node.get('key', '')}")
        print(f"Created-Index: {node.get('createdIndex', 0)}")
        print(f"Modified-Index: {node.get('modifiedIndex', 0)}")
        if previous:
            print(f"PrevNode.Value: {previous.get('value', '')}")
        print(f"TTL: {node.get('ttl', 0)}")
        print(f"Index: {index}")
        if body["action"] not in GONE:
            print(f"\n{node.get('value', '')}")
        return
    if body["action"] in GONE:
        if body["action"] != "compareAndDelete":  # who gave the value knows it
            print(f"PrevNode.Value: {(previous or {}).get('value', '')}")
    else:
        print(node.get("value", ""))


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """A node in the order and with the fields of Go's client."""
    out: dict[str, Any] = {"key": node.get("key", "")}
    if node.get("dir"):
        out["dir"] = True
    children: list[dict[str, Any]] | None = node.get("nodes")
    out["value"] = node.get("value", "")
    out["nodes"] = [_node(child) for child in children] if children is not None else None
    out["createdIndex"] = node.get("createdIndex", 0)
    out["modifiedIndex"] = node.get("modifiedIndex", 0)
    if node.get("expiration"):
        out["expiration"] = node["expiration"]
    if node.get("ttl"):
        out["ttl"] = node["ttl"]
    return out


def _go_json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, escape)
    return text


def backup(run: Run) -> int:
    """Offline: etcdutl's command of the same name."""
    from corum.cli.etcdctl.offline import backup as offline_backup

    return offline_backup(run.values)
