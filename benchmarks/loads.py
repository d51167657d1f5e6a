"""What is measured, as data: scenes, their loads, and the goals that belong to them.

A scene is one server on a fresh data directory with the loads that run on it one after the
other. Figures are named as the load generator names them, plus what is read from /proc.
"""

from dataclasses import dataclass, field

NEWEST = "go-newest"
OLD = "go-3.5.1"
OURS = "corum"


@dataclass(frozen=True)
class Goal:
    """`figure` of ours must be `sign` `bound` times that of `against`, or absolute if None."""

    figure: str
    sign: str  # ">=" or "<="
    bound: float
    against: str | None = NEWEST


@dataclass(frozen=True)
class Load:
    """One run of the load generator, or of something else that `kind` names."""

    name: str
    title: str
    words: str = ""
    kind: str = "loadgen"  # or: memory, restart, hold, check-perf, failover, newcomer
    main: str = "rate"  # the figure that stands for it in tables and plots
    goals: tuple[Goal, ...] = ()
    quick: str = ""  # words that replace the last ones in quick mode
    measured: bool = True  # False: only prepares
    newer: bool = False  # Go etcd 3.5.1 does not have it
    to: str = "all"  # or: leader, follower; of the scene's members


@dataclass(frozen=True)
class Scene:
    name: str
    loads: tuple[Load, ...]
    flags: tuple[str, ...] = field(default=())
    slow: bool = False  # left out of the quick mode
    rounds_max: int = 99
    members: int = 1
    older: bool = False  # the newest Go etcd has it no more


def at_least(bound: float, figure: str = "rate", against: str | None = NEWEST) -> Goal:
    return Goal(figure, ">=", bound, against)


def at_most(bound: float, figure: str, against: str | None = NEWEST) -> Goal:
    return Goal(figure, "<=", bound, against)


_PUT = (at_least(1.5), at_least(1.2, against=OLD), at_most(0.6, "cpu_us"), at_most(1.0, "p99_us"))
_FILL = Load(
    "fill", "100,000 keys of 256 B", "-load fill -keys 100000", quick="-keys 20000", measured=False
)
_BIG = ("--quota-backend-bytes=8589934592",)


def _put(
    name: str, clients: int, connections: int, goals: tuple[Goal, ...], more: str = ""
) -> Scene:
    title = f"put, {clients:,} clients on {connections:,} connection{'s' * (connections > 1)}"
    words = f"-load put -clients {clients} -connections {connections} {more}"
    return Scene(name, (Load(name, title + (", 1 KB" if more else ""), words, goals=goals),))


def _read(name: str, title: str, words: str, goal: float, newer: bool = False) -> Load:
    return Load(name, title, words, goals=(at_least(goal),), quick="-keys 20000", newer=newer)


_V2_WRITE = (at_least(1.3, against=OLD),)


def _v2(name: str, title: str, words: str, goals: tuple[Goal, ...], quick: str = "") -> Load:
    return Load(f"v2-{name}", f"v2 API: {title}", words, goals=goals, quick=quick)


def _v2_reads(name: str, title: str, goal: float) -> Load:
    words = f"-load v2-{name} -keys 20000"
    return _v2(name, title, words, (at_least(goal, against=OLD),), "-keys 2000")


_PUT_3 = (at_least(1.3), at_most(0.7, "cpu_us"))


def _cluster_put(name: str, clients: int, connections: int, to: str = "all") -> Scene:
    where = "the leader" if to == "leader" else "all"
    load = Load(
        f"cluster-put-{name}", f"three members: put, {clients:,} clients at {where}",
        f"-load put -clients {clients} -connections {connections}", goals=_PUT_3, to=to,
    )  # fmt: skip
    return Scene(load.name, (load,), members=3)


def _cluster_read(to: str) -> Load:
    return Load(
        f"cluster-read-{to}", f"three members: linearizable range of one key at a {to}",
        "-load range -keys 100000", goals=(at_least(1.3),), quick="-keys 20000", to=to,
    )  # fmt: skip


CLUSTERS: tuple[Scene, ...] = (
    _cluster_put("100", 100, 10),
    _cluster_put("1000", 1000, 100),
    _cluster_put("100-leader", 100, 10, "leader"),
    Scene("cluster-read", (_FILL, _cluster_read("leader"), _cluster_read("follower")), members=3),
    Scene(
        "cluster-failover",
        (
            Load(
                "cluster-failover", "kill -9 of the leader to the next leader, median of 10",
                kind="failover", main="leader_ms", goals=(at_most(1.0, "leader_ms"),),
            ),
        ),
        members=3,
    ),
    Scene(
        "cluster-newcomer",
        (
            Load(  # small entries and a short log: the newcomer gets a snapshot, then entries
                "cluster-newcomer-fill", "1 GiB", "-load fill -keys 104858 -value-bytes 10240 "
                "-batch 5 -clients 20", quick="-keys 40000", measured=False,
            ),
            Load(
                "cluster-newcomer", "an empty member catches up with 1 GiB", kind="newcomer",
                main="caught_up_ms",
                goals=(at_most(1.0, "caught_up_ms"), at_most(1.0, "peak_mib")),
            ),
        ),
        flags=(*_BIG, "--snapshot-count=2000"),
        members=3,
    ),
)  # fmt: skip

SINGLES: tuple[Scene, ...] = (
    Scene(
        "start",
        (
            Load(
                "start",
                "exec to ready, fresh directory",
                kind="restart",
                main="ready_ms",
                goals=(at_most(400, "ready_ms", None),),
            ),
            Load(
                "idle", "resident memory, idle", kind="memory", main="rss_mib",
                goals=(at_most(1.5, "rss_mib"),),
            ),
        ),
    ),
    _put("put-1", 1, 1, (at_least(1.1), at_most(1.0, "p99_us"))),
    _put("put-100", 100, 10, _PUT),
    _put("put-200", 200, 20, _PUT),
    _put("put-1000", 1000, 100, _PUT),
    _put("put-1000-1000", 1000, 1000, (at_least(1.3),), "-value-bytes 1024"),
    Scene(
        "reads",
        (
            _FILL,
            _read("range-1", "range of one key, linearizable", "-load range -keys 100000", 1.4),
            _read(
                "range-1-s", "range of one key, serializable",
                "-load range -serializable -keys 100000", 1.4,
            ),
            _read("range-50", "range of 50 keys", "-load range -limit 50 -keys 100000", 1.2),
            _read(
                "range-10000", "range of 10,000 keys",
                "-load range -limit 10000 -clients 8 -connections 4 -keys 100000", 1.5,
            ),
            _read(
                "stream-10000", "RangeStream of 10,000 keys",
                "-load stream -limit 10000 -clients 8 -connections 4 -keys 100000", 1.5, newer=True,
            ),
            _read("mixed", "80 % reads, 20 % puts", "-load mixed -keys 100000", 1.4),
        ),
    ),
    Scene("txn", (Load("txn", "txn: compare and put", "-load txn", goals=(at_least(1.8),)),)),
    Scene(
        "delete",
        (
            Load(
                "delete", "delete-range of 100,000 keys (keys/s)",
                "-load delete -total 3 -keys 100000", goals=(at_least(1.0),), quick="-keys 20000",
            ),
        ),
    ),
    Scene(
        "watch",
        (
            Load(
                "watch-fanout", "1,000 watchers on one key (events/s)",
                "-load watch-fanout -watchers 1000 -value-bytes 64 -total 2000",
                goals=(at_least(1.5),), quick="-total 400",
            ),
            Load(
                "watch-latency", "watch latency, 500 puts/s, 10 watchers",
                "-load watch-latency -watchers 10", main="p99_us", goals=(at_most(1.0, "p99_us"),),
            ),
        ),
    ),
    Scene(
        "watchers",
        (
            Load(
                "watchers", "resident memory with 100,000 watchers",
                "-load watch-idle -watchers 100000 -connections 20 -hold", kind="hold",
                main="rss_mib", goals=(at_most(1.0, "rss_mib"),), quick="-watchers 10000",
            ),
        ),
    ),
    Scene(
        "catch-up",
        (
            Load(
                "catch-up", "catch-up of 1,000,000 past events (events/s)",
                "-load watch-catchup -batch 10 -value-bytes 64 -total 1000000",
                goals=(at_least(1.0),), quick="-total 50000",
            ),
        ),
        flags=_BIG,
    ),
    Scene(
        "lease",
        (
            Load(
                "lease", "keepalive of 10,000 leases",
                "-load lease-keepalive -clients 200 -keys 10000", goals=(at_least(1.2),),
                quick="-keys 2000",
            ),
        ),
    ),
    Scene(
        "million",
        (
            Load(
                "million-fill", "1,000,000 keys of 256 B, 100 per txn (keys/s)",
                "-load fill -keys 1000000 -clients 20", quick="-keys 50000",
            ),
            Load(
                "million-memory", "resident memory with 1,000,000 keys", kind="memory",
                main="rss_mib", goals=(at_most(1.0, "rss_mib"),),
            ),
            Load(
                "count", "count-only over 1,000,000 keys",
                "-load count -clients 4 -connections 2 -keys 1000000", goals=(at_least(1.0),),
                quick="-keys 50000",
            ),
            Load(
                "stall-range", "slowest put beside a range over 1,000,000 keys",
                "-load stall-range -connections 2 -rate 200 -keys 1000000", main="max_us",
                goals=(at_most(100_000, "max_us", None),), quick="-keys 50000",
            ),
            Load(
                "million-start", "exec to ready with 1,000,000 keys", kind="restart",
                main="ready_ms", goals=(at_most(1.0, "ready_ms"),),
            ),
            Load(
                "million-start-memory", "resident memory after that start", kind="memory",
                main="rss_mib",
            ),
            Load(
                "stall-compact", "slowest put beside a compaction of 1,000,000 revisions",
                "-load stall-compact -connections 2 -clients 20 -rate 200 -keys 1000000",
                main="max_us", goals=(at_most(100_000, "max_us", None),), quick="-keys 50000",
            ),
        ),
        flags=_BIG,
    ),
    Scene(
        "v2",
        (
            _v2("set", "set, 100 clients", "-load v2-set", _V2_WRITE),
            _v2_reads("get", "get, 100 clients", 1.5),
            _v2_reads("qget", "quorum get, 100 clients", 1.3),
            _v2("cas", "compare and swap, 100 clients", "-load v2-cas", _V2_WRITE),
            _v2(
                "wait", "1,000 waits woken by one set (wake-ups/s)",
                "-load v2-wait -watchers 1000 -total 20", (at_least(1.0, against=OLD),), "-total 5",
            ),
            Load(
                "v2-expire", "v2 API: 100,000 keys with TTL, the latest to go",
                "-load v2-expire -keys 100000 -limit 60", main="max_us",
                goals=(at_most(1_000_000, "max_us", None),), quick="-keys 20000 -limit 15",
            ),
        ),
        flags=("--enable-v2",),
        older=True,
    ),
    *[
        Scene(
            f"check-perf-{size}",
            (
                Load(
                    f"check-perf-{size}", f"etcdctl check perf --load={size}", size,
                    kind="check-perf", goals=(at_least(1.1),) if size != "m" else (),
                ),
            ),
            slow=True,
            rounds_max=3,
        )
        for size in ("m", "l", "xl")
    ],
)  # fmt: skip

SCENES: tuple[Scene, ...] = (*SINGLES, *CLUSTERS)
