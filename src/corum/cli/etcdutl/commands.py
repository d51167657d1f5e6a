"""The table of etcdutl's commands and flags. Texts as etcd 3.7 has them."""

from __future__ import annotations

from corum.cli import flags
from corum.cli.command import Command
from corum.cli.flags import Flag

_GLOBAL = (
    flags.text(
        "write-out",
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
        short="w",
    ),
    flags.duration(
        "timeout",
        10_000_000_000,
        "time to wait to obtain a file lock on db file, 0 to block indefinitely",
    ),
)

_RESTORE = (
    flags.text("data-dir", "", "Path to the output data directory"),
    flags.text("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)"),
    flags.text(
        "initial-cluster",
        "default=http://localhost:2380",
        "Initial cluster configuration for restore bootstrap",
    ),
    flags.text(
        "initial-cluster-token",
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during restore bootstrap",
    ),
    flags.text(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster",
    ),
    flags.text("name", "default", "Human-readable name for this member"),
    flags.boolean(
        "skip-hash-check",
        "Ignore snapshot integrity hash value (required if copied from data directory)",
    ),
    Flag(
        "initial-memory-map-size",
        "uint",
        10 << 30,
        "Initial memory map size of the database in bytes. "
        "It uses the default value if not defined or defined to 0",
    ),
    Flag("bump-revision", "uint", 0, "How much to increase the latest revision after restore"),
    flags.boolean(
        "mark-compacted",
        "Mark the latest revision after restore as the point of scheduled compaction "
        "(required if --bump-revision > 0, disallowed otherwise)",
    ),
)

PROGRAM = Command(
    "etcdutl",
    "An administrative command line tool for etcd3.",
    sticky=_GLOBAL,
    commands=(
        Command(
            "backup",
            "[legacy] Copies a data directory, for a new cluster of one member",
            run="corum.cli.etcdutl.backup:run",
            flags=(
                flags.text("data-dir", "", "Required. Path to the etcd data dir"),
                flags.text("wal-dir", "", "Path to the etcd wal dir"),
                flags.text("backup-dir", "", "Required. Path to the backup dir"),
                flags.text("backup-wal-dir", "", "Path to the backup wal dir"),
                flags.boolean("with-v3", "Backup v3 backend data", default=True),
            ),
        ),
        Command(
            "check",
            "Checks a data directory",
            commands=(
                Command(
                    "v2store",
                    "Tells whether there are v2 keys, which etcd 3.6 does not take over",
                    run="corum.cli.etcdutl.check:run_v2store",
                    flags=(
                        flags.text("data-dir", "", "Required. A data directory not in use by etcd"),
                        flags.text("wal-dir", "", "Path to the WAL directory"),
                    ),
                ),
            ),
        ),
        Command(
            "completion",
            "Generates a completion script",
            usage="completion [bash|zsh|fish]",
            run="corum.cli.etcdctl.about:completion",
        ),
        Command(
            "copy-v2",
            "Copies the v2 keys of a stopped member to v3 keys, TTLs to leases",
            run="corum.cli.etcdutl.copy_v2:run",
            long="For a member that is alone, or from whose data all others will start anew.\n"
            "In a cluster that runs: corum copy-v2.",
            flags=(
                flags.text("data-dir", "", "Required. A data directory not in use by etcd"),
                flags.text("wal-dir", "", "Path to the WAL directory"),
                flags.text("prefix", "", "What the v3 keys begin with"),
                flags.boolean("overwrite", "Also v3 keys that are there already"),
            ),
        ),
        Command(
            "defrag",
            "Defragments the storage of the etcd",
            run="corum.cli.etcdutl.upkeep:defrag",
            flags=(
                flags.text(
                    "data-dir", "", "Required. Defragments a data directory not in use by etcd."
                ),
            ),
        ),
        Command(
            "export",
            "Hands a data directory of ours back to Go etcd",
            run="corum.cli.etcdutl.export:run",
            flags=(
                flags.text("data-dir", "", "Required. A data directory not in use by etcd"),
                flags.text("wal-dir", "", "Path to the WAL directory"),
                flags.text("output-dir", "", "Required. Path to the data directory to write"),
                flags.text("output-wal-dir", "", "Path to the WAL directory to write"),
                flags.boolean(
                    "with-v2",
                    "Keep v2 keys, which etcd 3.5 takes over and 3.6 refuses",
                    default=True,
                ),
            ),
        ),
        Command(
            "hashkv",
            "Prints the KV history hash of a given file",
            usage="hashkv <filename>",
            run="corum.cli.etcdutl.upkeep:hashkv",
            flags=(flags.integer("rev", 0, "maximum revision to hash (default: latest revision)"),),
        ),
        Command(
            "migrate",
            "Migrates the schema of a data directory to that of another etcd version",
            run="corum.cli.etcdutl.migrate:run",
            flags=(
                flags.text("data-dir", "", "Required. Path to the etcd data dir"),
                flags.text(
                    "target-version",
                    "",
                    'Required. Target etcd version, as "X.Y" (for example 3.6). Minimal value 3.5',
                ),
                flags.boolean(
                    "force",
                    "Ignore migration failure and forcefully override storage version. "
                    "Not recommended.",
                ),
            ),
        ),
        Command(
            "snapshot",
            "Manages etcd node snapshots",
            commands=(
                Command(
                    "restore",
                    "Restores an etcd member snapshot to an etcd directory",
                    usage="restore <filename> --data-dir {output dir} [options]",
                    run="corum.cli.etcdutl.snapshot:run_restore",
                    flags=_RESTORE,
                ),
                Command(
                    "status",
                    "Gets backend snapshot status of a given file",
                    usage="status <filename>",
                    run="corum.cli.etcdutl.snapshot:run_status",
                ),
            ),
        ),
        Command(
            "version",
            "Prints the version of etcdutl",
            run="corum.cli.etcdutl.upkeep:version",
        ),
    ),
)
