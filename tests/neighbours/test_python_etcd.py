"""python-etcd (PyPI), unchanged: its own integration tests, and what PyTorch does with it."""

import re
import socket
import subprocess
from pathlib import Path

import pytest

from neighbours.conftest import Foreign
from oracle.servers import Server, free_port

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.compat,
    pytest.mark.timeout(1_000),
]

PORTS = (6001, 6002, 6003, 8001, 8002, 8003)
"""Written into its tests."""

OLD_FORMAT = {
    "EtcdUserTest::test_names", "EtcdUserTest::test_read", "EtcdUserTest::test_write_and_delete",
    "EtcdRoleTest::test_names", "EtcdRoleTest::test_read", "EtcdRoleTest::test_write_and_delete",
}  # fmt: skip
"""Written against the lists of users and roles of etcd 2.1; they fail with Go etcd 3.5.1 alike."""

SHIMS = {
    # nose is gone from newer Pythons; all that is used of it is a mark.
    "nose/__init__.py": "",
    "nose/tools.py": "def nottest(f):\n    return f\n",
    # Its helper sleeps two seconds after each start, which a busy machine does not keep.
    "patient.py": """
import time, urllib.request
from etcd.tests.integration import helpers
Helper = helpers.EtcdProcessHelper
run, add_one = Helper.run, Helper.add_one
def wait(self):
    end = time.monotonic() + 60
    for slot in self.processes:
        url = "%s127.0.0.1:%d/health" % (self.schema, self.port_range_start + slot)
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.05)
def patient_run(self, number=1, proc_args=None):
    self.starting = True
    run(self, number, [] if proc_args is None else list(proc_args))
    self.starting = False
    wait(self)
def patient_add(self, slot, proc_args=None):
    add_one(self, slot, proc_args)
    if not getattr(self, "starting", False):
        wait(self)
Helper.run, Helper.add_one = patient_run, patient_add
""",
}


def test_its_own_tests(foreign: Foreign, tmp_path: Path) -> None:
    """All pass but those that expect etcd 2.1's lists of users and roles."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"its tests need port {port}, which is in use")
    for name, text in SHIMS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    argv = [str(foreign.python), "-m", "pytest", "-q", "-rA", "-W", "ignore", "-p", "patient"]
    argv += ["-p", "no:cacheprovider", "--tb=short", "--pyargs"]
    argv += ["etcd.tests.test_auth", "etcd.tests.integration.test_simple"]
    environment = foreign.environment(PYTHONPATH=str(tmp_path))
    done = subprocess.run(
        argv, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    passed = set(re.findall(r"^PASSED \S*?::(\S+)", done.stdout, re.MULTILINE))
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", done.stdout, re.MULTILINE))
    assert failed <= OLD_FORMAT, done.stdout[-8_000:]
    assert len(passed) >= 17, done.stdout[-8_000:]
    assert "TestSimple::test_get_set_delete" in passed
    assert "TestWatch::test_watch_generator" in passed


TORCH = """
import subprocess, sys, tempfile, time, shutil, threading
import etcd
port, peer = sys.argv[1:3]
folder = tempfile.mkdtemp()
binary = shutil.which("etcd")
url = "http://localhost:" + port
server = subprocess.Popen(
    [binary, "--enable-v2", "--data-dir", folder, "--listen-client-urls", url,
     "--advertise-client-urls", url, "--listen-peer-urls", "http://localhost:" + peer],
    close_fds=True, stderr=subprocess.DEVNULL)
try:
    client = etcd.Client(host="localhost", port=int(port), version_prefix="/v2", read_timeout=10)
    end = time.time() + 60
    while True:
        assert server.poll() is None, "the server ended"
        try:
            print("version", bool(client.version))
            break
        except Exception:
            assert time.time() < end, "not ready within a minute"
            time.sleep(0.1)
    # A rendezvous: one creates the round with a TTL, all join by compare and swap, the last one
    # closes it; everybody waits for the next state; who is alive refreshes a key of its own.
    root = "/torchelastic/p2p/run_1"
    client.write(root + "/rdzv/active_version", value='{"status": "setup", "n": 0}',
        prevExist=False, ttl=60)
    try:
        client.write(root + "/rdzv/active_version", value="x", prevExist=False)
        raise SystemExit("created twice")
    except etcd.EtcdAlreadyExist:
        pass
    def join(rank):
        mine = etcd.Client(host="localhost", port=int(port), version_prefix="/v2")
        while True:
            state = mine.get(root + "/rdzv/active_version")
            n = int(state.value.split()[-1].rstrip("}"))
            try:
                mine.test_and_set(key=root + "/rdzv/active_version",
                    value='{"status": "setup", "n": %d}' % (n + 1), prev_value=state.value, ttl=60)
                break
            except etcd.EtcdCompareFailed:
                continue
        alive = mine.write(root + "/rdzv/keep_alive/rank_%d" % rank, value=None, ttl=10)
        mine.refresh(root + "/rdzv/keep_alive/rank_%d" % rank, ttl=10)
    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    state = client.get(root + "/rdzv/active_version")
    print("joined", state.value.split()[-1].rstrip("}"))
    print("alive", len(list(client.get(root + "/rdzv/keep_alive").children)))
    final = lambda: client.test_and_set(root + "/rdzv/active_version", "final", state.value)
    threading.Timer(0.3, final).start()
    seen = client.watch(root + "/rdzv/active_version", index=state.etcd_index + 1, timeout=30)
    print("seen", seen.value)
    try:
        client.watch(root + "/never", timeout=1)
    except etcd.EtcdWatchTimedOut:
        print("timed out")
finally:
    server.terminate()
    print("ended", server.wait(30) is not None)
    shutil.rmtree(folder, ignore_errors=True)
"""


def test_start_up_and_rendezvous_as_by_pytorch(foreign: Foreign) -> None:
    """`etcd` found on PATH serves a rendezvous of eight workers; a watch times out and resumes."""
    out = foreign.run("-c", TORCH, str(free_port()), str(free_port()), timeout_s=180)
    assert out.splitlines() == [
        "version True", "joined 8", "alive 8", "seen final", "timed out", "ended True",
    ]  # fmt: skip


LOCKS = """
import sys, etcd, threading
port = int(sys.argv[1])
order = []
def work(name):
    client = etcd.Client(port=port)
    lock = etcd.Lock(client, "customer1")
    with lock:
        order.append(name + "+")
        order.append(name + "-")
threads = [threading.Thread(target=work, args=(n,)) for n in "abcd"]
for t in threads: t.start()
for t in threads: t.join()
assert all(order[i][0] == order[i + 1][0] for i in range(0, 8, 2)), order
print("locks", len(order))
client = etcd.Client(port=port)
client.write("/queue", "1", append=True)
client.write("/queue", "2", append=True)
print([child.value for child in client.read("/queue", sorted=True).children])
"""


def test_its_locks_and_queues(foreign: Foreign, our_server: Server) -> None:
    """Four holders, one at a time; in-order keys in order."""
    out = foreign.run("-c", LOCKS, str(our_server.client_port), timeout_s=120)
    assert out.splitlines() == ["locks 8", "['1', '2']"]
