"""Metrics of the process: `process_*`, `os_fd_*`, and stand-ins for `go_*`. Read from /proc.

Dashboards made for etcd look at go_goroutines and go_memstats_*: they get threads and resident
memory, which is what these panels are used for. Everything is read when asked for, nothing is kept.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from corum.prometheus import go_float, header
from corum.versions import go_version

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def lines() -> Iterable[str]:
    """The exposition of them all; what this system does not tell is left out."""
    for name, kind, meaning, amount in (*_go(), *_os(), *_process()):
        yield from header(name, kind, meaning)
        yield f"{name} {go_float(amount)}"
    yield from header("go_info", "gauge", "What runs this program; no Go.")
    yield f'go_info{{version="{go_version()}"}} 1'


_Sample = tuple[str, str, str, float]


def _go() -> list[_Sample]:
    resident = float(_memory_pages()[1] * _PAGE_BYTES)
    threads = len(_listing("/proc/self/task")) or threading.active_count()
    said = "Resident memory (stand-in)."
    return [
        ("go_goroutines", "gauge", "Threads (stand-in).", float(threads)),
        ("go_threads", "gauge", "Threads.", float(threads)),
        *(
            (f"go_memstats_{part}_bytes", "gauge", said, resident)
            for part in ("alloc", "heap_alloc", "heap_inuse", "sys")
        ),
    ]


def _os() -> list[_Sample]:
    return [
        ("os_fd_limit", "gauge", "Most file descriptors.", float(_fd_limit())),
        ("os_fd_used", "gauge", "Open file descriptors.", float(open_fds())),
    ]


def _process() -> list[_Sample]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    virtual_pages, resident_pages = _memory_pages()
    received, sent = _network_octets()
    virtual_max = resource.getrlimit(resource.RLIMIT_AS)[0]
    p = "process_"
    return [
        (p + "cpu_seconds_total", "counter", "CPU time.", used.ru_utime + used.ru_stime),
        (p + "max_fds", "gauge", "Most file descriptors.", float(_fd_limit())),
        (p + "network_receive_bytes_total", "counter", "Bytes received.", received),
        (p + "network_transmit_bytes_total", "counter", "Bytes sent.", sent),
        (p + "open_fds", "gauge", "Open file descriptors.", float(open_fds())),
        (p + "resident_memory_bytes", "gauge", "Resident memory.", resident_pages * _PAGE_BYTES),
        (p + "start_time_seconds", "gauge", "Unix time of the start.", _start_time_s()),
        (p + "virtual_memory_bytes", "gauge", "Virtual memory.", virtual_pages * _PAGE_BYTES),
        (
            p + "virtual_memory_max_bytes",
            "gauge",
            "Limit of virtual memory.",
            float(2**64 - 1 if virtual_max == resource.RLIM_INFINITY else virtual_max),
        ),
    ]


def _fd_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_fds() -> int:
    """Open file descriptors of this process; 0 where the system does not tell."""
    return len(_listing("/proc/self/fd"))


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _memory_pages() -> tuple[int, int]:
    """(virtual, resident)."""
    words = _read("/proc/self/statm").split()
    return (int(words[0]), int(words[1])) if len(words) > 1 else (0, 0)


def _start_time_s() -> float:
    after_name = _read("/proc/self/stat").rpartition(")")[2].split()
    boot = [line for line in _read("/proc/stat").splitlines() if line.startswith("btime ")]
    if len(after_name) < 20 or not boot:
        return 0.0
    return int(boot[0].split()[1]) + int(after_name[19]) / _TICKS_PER_S


def _network_octets() -> tuple[float, float]:
    """(received, sent) in this network namespace, as Go's client reports it."""
    rows = [row.split() for row in _read("/proc/self/net/netstat").splitlines()]
    for names, values in pairwise(rows):
        if names[:1] == ["IpExt:"] and "InOctets" in names and values[:1] == ["IpExt:"]:
            found = dict(zip(names, values, strict=False))
            return float(found["InOctets"]), float(found["OutOctets"])
    return 0.0, 0.0
