"""The table of all commands of etcdctl, with their flags and the functions behind them.

Only data: what a command does is imported when it is run.
"""

from __future__ import annotations

from corum.cli.command import HELP_COMMAND, Command
from corum.cli.flags import Flag, boolean, duration, integer, text

S = 1_000_000_000
HERE = "corum.cli.etcdctl"

GLOBAL_FLAGS = (
    text("auth-jwt-token", "", "JWT to authenticate with, instead of --user and --password"),
    text("cacert", "", "check the server's certificate with this CA bundle"),
    text("cert", "", "client certificate file"),
    duration("command-timeout", 5 * S, "time limit of a short command, connecting included"),
    boolean("debug", "show the settings and more of what the client does"),
    duration("dial-timeout", 2 * S, "time limit of a connection attempt"),
    text("discovery-srv", "", "domain whose SRV records name the endpoints", short="d"),
    text("discovery-srv-name", "", "service name to look for in DNS"),
    Flag("endpoints", "strings", ("127.0.0.1:2379",), "addresses of members, separated by commas"),
    boolean("hex", "print keys and values as hexadecimal bytes"),
    boolean("insecure-discovery", "accept SRV records of servers without TLS", default=True),
    boolean("insecure-skip-tls-verify", "do not check the server's certificate (for tests only)"),
    boolean("insecure-transport", "connect without TLS", default=True),
    duration("keepalive-time", 2 * S, "ping a silent connection after this time"),
    duration("keepalive-timeout", 6 * S, "give a connection up when a ping is not answered in it"),
    text("key", "", "key file of the client certificate"),
    integer("max-recv-bytes", 0, "longest answer to accept, in bytes (0: 2 GiB)"),
    integer("max-request-bytes", 0, "longest request to send, in bytes (0: no limit here)"),
    text("password", "", "password, when --user holds only the name"),
    text("user", "", "name[:password] to log in with; asks for a missing password"),
    text("write-out", "simple", "format: fields, json, protobuf, simple or table", short="w"),
)  # fmt: skip

PREFIX = boolean("prefix", "all keys that begin with the given one")
FROM_KEY = boolean("from-key", "all keys from the given one on, in byte order")
PREV_KV = boolean("prev-kv", "also print the pair as it was before")
INTERACTIVE = boolean("interactive", "read requests from standard input, with prompts", short="i")
RANGE_ARGUMENTS = "[options] <key> [range_end]"

PUT_LONG = """\
Stores a value under a key.

Without <value>, and without --ignore-value, the value is read from standard input:
  etcdctl put config < file

A value that begins with '-' would be taken for a flag; put '--' before it:
  etcdctl put <key> -- <value>"""

WATCH_LONG = """\
Prints every change of a key, a range or a prefix until interrupted.

With '-- command args' the command runs for every change and finds it in ETCD_WATCH_REVISION,
ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE.

ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END may stand for the arguments. With -i, lines of
standard input are commands: 'watch [options] <key> [range_end] [-- command]' or 'progress'."""

TXN_LONG = """\
Reads three lists from standard input, each ended by an empty line or the end of the input:
conditions, requests if all hold, requests otherwise.

  mod("key1") > "0"

  put key1 "overwrote key1"

  put key1 "created key1"

A condition is <target>("<key>") <operator> "<value>", with the targets create (c), mod (m),
version (ver), value (val), lease and the operators =, !=, <, >."""

SNAPSHOT_RESTORE_FLAGS = (
    text("data-dir", "", "data directory to make"),
    text("initial-advertise-peer-urls", "http://localhost:2380", "peer URLs of this member"),
    text("initial-cluster", "default=http://localhost:2380", "members of the new cluster"),
    text("initial-cluster-token", "etcd-cluster", "token of the new cluster"),
    text("name", "default", "name of this member"),
    boolean("skip-hash-check", "do not check the snapshot's hash (for a copied database file)"),
    text("wal-dir", "", "directory of the log, if not in the data directory"),
)

CHECK_FLAGS = (
    boolean("auto-compact", "compact what the test wrote"),
    boolean("auto-defrag", "defragment after the test"),
)

MIRROR_FLAGS = (
    text("dest-cacert", "", "check the destination's certificate with this CA bundle"),
    text("dest-cert", "", "client certificate file for the destination"),
    boolean("dest-insecure-transport", "connect to the destination without TLS", default=True),
    text("dest-key", "", "key file for the destination"),
    text("dest-password", "", "password for the destination"),
    text("dest-prefix", "", "prefix to use there instead of --prefix"),
    text("dest-user", "", "name[:password] for the destination"),
    integer("max-txn-ops", 128, "most operations in one transaction"),
    boolean("no-dest-prefix", "keys lose --prefix at the destination"),
    text("prefix", "", "mirror only keys that begin with it"),
    integer("rev", 0, "start from this revision"),
)


def _noun(name: str, short: str, *commands: Command, sticky: tuple[Flag, ...] = ()) -> Command:
    return Command(name, short, usage=f"{name} <subcommand>", commands=commands, sticky=sticky)


def _command(
    name: str, arguments: str, short: str, run: str, *flags: Flag, long: str = ""
) -> Command:
    usage = f"{name} {arguments}".strip()
    return Command(name, short, usage=usage, run=f"{HERE}.{run}", flags=flags, long=long)


KEYS = (
    _command(
        "put", "[options] <key> <value> (<value> can also be given from stdin)",
        "stores a value under a key", "kv:put",
        boolean("ignore-lease", "keep the key's lease"),
        boolean("ignore-value", "keep the key's value"),
        text("lease", "0", "lease to attach the key to (hexadecimal)"),
        PREV_KV, long=PUT_LONG,
    ),
    _command(
        "get", RANGE_ARGUMENTS, "prints a key or a range of keys", "kv:get",
        text("consistency", "l", "l: linearizable, s: serializable"),
        boolean("count-only", "only the number of keys"),
        FROM_KEY,
        boolean("keys-only", "only the keys"),
        integer("limit", 0, "at most so many keys"),
        integer("max-create-rev", 0, "only keys created at this revision or before"),
        integer("max-mod-rev", 0, "only keys modified last at this revision or before"),
        integer("min-create-rev", 0, "only keys created at this revision or later"),
        integer("min-mod-rev", 0, "only keys modified last at this revision or later"),
        text("order", "", "ASCEND or DESCEND"),
        PREFIX,
        boolean("print-value-only", "only the values, in the simple format"),
        integer("rev", 0, "as it was at this revision"),
        text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
        boolean("stream", "receive the answer in pieces (servers from 3.7 on)"),
    ),
    _command(
        "del", RANGE_ARGUMENTS, "removes a key or a range of keys [key, range_end)", "kv:delete",
        FROM_KEY, PREFIX, PREV_KV,
        boolean("range", "delete a range without the pause that warns of it"),
    ),
    _command(
        "txn", "[options]", "does several requests as one", "txn:txn", INTERACTIVE, long=TXN_LONG
    ),
    _command(
        "compaction", "[options] <revision>", "forgets what was before a revision",
        "kv:compaction",
        boolean("physical", "wait until the room is free on disk"),
    ),
    Command(
        "watch", "prints changes as they happen", run=f"{HERE}.watch:watch",
        usage="watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        flags=(
            INTERACTIVE, PREFIX,
            PREV_KV,
            boolean("progress-notify", "also print where the watch is when nothing happens"),
            integer("rev", 0, "begin at this revision"),
        ),
        long=WATCH_LONG,
    ),
    _noun(
        "lease", "leases: time limits of keys",
        _command("grant", "<ttl>", "makes a lease of so many seconds", "lease:grant"),
        _command(
            "keep-alive", "[options] <leaseID>", "keeps a lease alive until interrupted",
            "lease:keep_alive", boolean("once", "renew it once"),
        ),
        _command("list", "", "prints all leases", "lease:list_leases"),
        _command("revoke", "<leaseID>", "ends a lease and deletes its keys", "lease:revoke"),
        _command(
            "timetolive", "<leaseID> [options]", "prints the time a lease has left",
            "lease:time_to_live", boolean("keys", "also print its keys"),
        ),
    ),
)  # fmt: skip

CLUSTER = (
    _noun(
        "member", "members of the cluster",
        _command(
            "add", "<memberName> [options]", "adds a member", "member:add",
            boolean("learner", "add it as a learner, which does not vote"),
            text("peer-urls", "", "its peer URLs, separated by commas"),
        ),
        _command(
            "list", "", "prints all members", "member:list_members",
            text("consistency", "l", "l: linearizable, s: serializable"),
        ),
        _command("promote", "<memberID>", "makes a learner a voter", "member:promote"),
        _command("remove", "<memberID>", "removes a member", "member:remove"),
        _command(
            "update", "<memberID> [options]", "changes a member's peer URLs", "member:update",
            text("peer-urls", "", "its new peer URLs, separated by commas"),
        ),
    ),
    _noun(
        "endpoint", "the members behind --endpoints",
        _command("health", "", "can they commit?", "endpoint:health"),
        _command("status", "", "version, size, leader and log of each", "endpoint:status"),
        _command(
            "hashkv", "", "hash of each one's history", "endpoint:hashkv",
            integer("rev", 0, "up to this revision (0: all)"),
        ),
        sticky=(boolean("cluster", "all members of the cluster instead of --endpoints"),),
    ),
    _noun(
        "alarm", "alarms: out of space, corrupt data",
        _command("disarm", "", "ends all alarms", "alarm:disarm"),
        _command("list", "", "prints all alarms", "alarm:list_alarms"),
    ),
    _command(
        "defrag", "", "gives free space of the endpoints' databases back", "maintenance:defrag",
        boolean("cluster", "all members of the cluster instead of --endpoints"),
        text("data-dir", "", "defragment this directory of a member that is not running"),
    ),
    _noun(
        "snapshot", "copies of the whole store",
        _command("save", "<filename>", "writes a snapshot of one endpoint", "snapshot:save"),
        _command("status", "<filename>", "describes a snapshot (see etcdutl)", "snapshot:status"),
        _command(
            "restore", "<filename> --data-dir {output dir} [options]",
            "makes a data directory from a snapshot (see etcdutl)", "snapshot:restore",
            *SNAPSHOT_RESTORE_FLAGS,
        ),
    ),
    _command(
        "move-leader", "<transferee-member-id>", "makes another member the leader",
        "maintenance:move_leader",
    ),
    _noun(
        "downgrade", "preparing an older version",
        _command("validate", "<TARGET_VERSION>", "is it possible?", "maintenance:downgrade"),
        _command("enable", "<TARGET_VERSION>", "begin", "maintenance:downgrade"),
        _command("cancel", "", "stay with this version", "maintenance:downgrade"),
    ),
    _command(
        "make-mirror", "[options] <destination>", "copies keys to another cluster, and goes on",
        "make_mirror:make_mirror", *MIRROR_FLAGS,
    ),
    _noun(
        "check", "how the cluster performs",
        _command(
            "datascale", "[options]", "memory that a server needs for so many keys",
            "check:datascale", *CHECK_FLAGS,
            text("load", "s", "s(mall), m(edium), l(arge) or xl(arge)"),
            text("prefix", "/etcdctl-check-datascale/", "prefix of the keys it writes"),
        ),
        _command(
            "perf", "[options]", "writes at a rate for a minute", "check:perf", *CHECK_FLAGS,
            text("load", "s", "s(mall), m(edium), l(arge) or xl(arge)"),
            text("prefix", "/etcdctl-check-perf/", "prefix of the keys it writes"),
        ),
    ),
)  # fmt: skip

CONCURRENCY = (
    _command(
        "lock", "<lockname> [exec-command arg1 arg2 ...]", "holds a named lock", "lock:lock",
        integer("ttl", 10, "seconds until the lock of a holder that died is free"),
    ),
    _command(
        "elect", "<election-name> [proposal]", "stands for an election, or watches one",
        "lock:elect",
        boolean("listen", "watch who leads", short="l"),
    ),
)  # fmt: skip

AUTH = (
    _noun(
        "auth", "authentication",
        _command("enable", "", "from now on, only with a password", "auth:enable"),
        _command("disable", "", "everybody may do everything", "auth:disable"),
        _command("status", "", "is it on?", "auth:status"),
    ),
    _noun(
        "user", "users",
        _command(
            "add", "<user name or user:password> [options]", "adds a user", "user:add",
            boolean("interactive", "ask for the password; false: read it from stdin", default=True),
            text("new-user-password", "", "the password; then <user name> is only the name"),
            boolean("no-password", "a user who proves himself by certificate only"),
        ),
        _command("delete", "<user name>", "removes a user", "user:delete"),
        _command(
            "get", "<user name> [options]", "prints a user's roles", "user:get",
            boolean("detail", "also print what the roles permit"),
        ),
        _command("grant-role", "<user name> <role name>", "gives a role", "user:grant_role"),
        _command("list", "", "prints all users", "user:list_users"),
        _command(
            "passwd", "<user name> [options]", "changes a password", "user:passwd",
            boolean("interactive", "ask for the password; false: read it from stdin", default=True),
        ),
        _command("revoke-role", "<user name> <role name>", "takes a role back", "user:revoke_role"),
    ),
    _noun(
        "role", "roles: sets of permissions",
        _command("add", "<role name>", "adds a role", "role:add"),
        _command("delete", "<role name>", "removes a role", "role:delete"),
        _command("get", "<role name>", "prints what a role permits", "role:get"),
        _command(
            "grant-permission", "[options] <role name> <permission type> <key> [endkey]",
            "permits read, write or readwrite", "role:grant", FROM_KEY, PREFIX,
        ),
        _command("list", "", "prints all roles", "role:list_roles"),
        _command(
            "revoke-permission", "<role name> <key> [endkey]", "takes a permission back",
            "role:revoke", FROM_KEY, PREFIX,
        ),
    ),
)  # fmt: skip

OTHERS = (
    _command("version", "", "prints the version", "about:version"),
    _command("options", "", "prints the flags of all commands", "about:options"),
    _command("completion", "[bash|zsh|fish]", "prints a completion script", "about:completion"),
)

PROGRAM = Command(
    "etcdctl",
    "the command line client of etcd",
    sticky=GLOBAL_FLAGS,
    commands=(*KEYS, *CLUSTER, *CONCURRENCY, *AUTH, *OTHERS, HELP_COMMAND),
)
