"""Members that find each other by DNS SRV records; the name server is dnsmasq.

Names are looked up as the system says, so the test has a network and an /etc/resolv.conf of its own
(Linux namespaces): it runs this file again in there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oracle.servers import Program

pytestmark = [pytest.mark.process, pytest.mark.slow]

INSIDE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--kill-child"]
DOMAIN = "example.com"
ADDRESSES = {f"infra{n}.{DOMAIN}": f"10.0.1.1{n}" for n in range(3)}


@pytest.fixture(scope="module")
def dnsmasq() -> str:
    found = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip("dnsmasq is not installed")
    if shutil.which("ip") is None or subprocess.run([*INSIDE, "true"], check=False).returncode:
        pytest.skip("no namespaces of our own here")
    return found


@pytest.mark.parametrize("case", ["plain", "named", "nobody"])
def test_members_meet_by_dns(
    our_program: Program, dnsmasq: str, tmp_path: Path, case: str, long: bool
) -> None:
    """Listening on names; with --discovery-srv-name; and a member that no record leads to."""
    if case != "plain" and not long:
        pytest.skip("with --long")
    argv = [*INSIDE, sys.executable, __file__, case, dnsmasq, str(tmp_path), *our_program.argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]


# ---- in there


@contextlib.contextmanager
def world(dnsmasq: str, folder: Path, suffix: str) -> Iterator[None]:
    """A network with three addresses and a name server that knows them."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES.values():
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
    records = [f"--host-record={name},{address}" for name, address in ADDRESSES.items()]
    service = f"_etcd-server{suffix}._tcp.{DOMAIN}"
    records += [f"--srv-host={service},{name},2380,0,0" for name in ADDRESSES]
    argv = [dnsmasq, "--no-daemon", "--no-hosts", "--no-resolv", "--listen-address=127.0.0.1"]
    argv += ["--bind-interfaces", "--user=root", "--group=root", "--conf-file=/dev/null", *records]
    with (folder / "dnsmasq.log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield
    finally:
        server.kill()
        server.wait()


def member(argv: list[str], folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    """Started with names in all its URLs."""
    host = f"{name}.{DOMAIN}"
    words = [
        f"--name={name}",
        f"--data-dir={folder / name}",
        f"--discovery-srv={DOMAIN}",
        "--initial-cluster-token=etcd-cluster-1",
        f"--initial-advertise-peer-urls=http://{host}:2380",
        f"--listen-peer-urls=http://{host}:2380",
        f"--advertise-client-urls=http://{host}:2379",
        f"--listen-client-urls=http://{host}:2379",
        *flags,
    ]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([*argv, *words], stdout=log, stderr=log)


def until(found: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not found():
        if time.monotonic() > end:
            raise SystemExit(f"not within a minute: {what}")
        time.sleep(0.05)


def listed(host: str) -> list[tuple[str, str]]:
    """(name, peer URL) of every member, as one of them says."""
    url = f"http://{host}:2379/v3/cluster/member/list"
    try:
        with urllib.request.urlopen(url, b"{}", timeout=5) as answer:
            found = json.load(answer)["members"]
    except OSError:
        return []
    return sorted((m.get("name", ""), m["peerURLs"][0]) for m in found)


def main(case: str, dnsmasq: str, folder: Path, argv: list[str]) -> None:
    suffix = "-blue" if case == "named" else ""
    flags = ["--discovery-srv-name=blue"] if suffix else []
    names = [host.partition(".")[0] for host in ADDRESSES]
    running: list[subprocess.Popen[bytes]] = []
    with world(dnsmasq, folder, suffix):
        try:
            if case == "nobody":
                lost = member(argv, folder, names[0], "--initial-advertise-peer-urls=http://x:1")
                running.append(lost)
                assert lost.wait(60) == 1
                text = 'cannot find local etcd member \\"infra0\\" in SRV records'
                assert text in (folder / "infra0.log").read_text()
                return
            running += [member(argv, folder, name, *flags) for name in names]
            wanted = sorted((n, f"http://{n}.{DOMAIN}:2380") for n in names)
            for host in ADDRESSES:
                until(lambda host=host: listed(host) == wanted, f"{host} lists all members")
        finally:
            for process in running:
                process.kill()
                process.wait()
            for log in folder.glob("*.log"):
                print(log.name, log.read_text()[-1_500:])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
