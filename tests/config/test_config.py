"""Settings: sources, precedence, and etcd's words for what it refuses (asked of Go etcd 3.5.1)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum import config
from corum.config import FLAGS, Config, ConfigError
from corum.config.aliases import ALIASES, IGNORED
from corum.config.help import help_text
from corum.config.rules import compaction_retention

SECOND = 1_000_000_000


def parse(*argv: str, **environ: str) -> Config:
    return config.parse(argv, environ)


def refused(*argv: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.parse(argv, environ)
    return caught.value


def test_defaults() -> None:
    """No flags at all: etcd's newest defaults, with the data directory named after the member."""
    found = parse()
    assert (found.name, found.data_dir) == ("default", "default.etcd")
    assert found.listen_client_urls == found.advertise_client_urls == ("http://localhost:2379",)
    assert found.members == {"default": ("http://localhost:2380",)}
    assert (found.heartbeat_interval, found.election_timeout) == (100, 1000)
    assert (found.quota_bytes, found.batch_interval_ns) == (2 << 30, 100_000_000)
    assert found.features["TxnModeWriteWithSharedBuffer"]
    assert found.serves_v2
    assert not parse("--enable-v2=false").serves_v2
    assert not parse("--v2-deprecation=write-only").serves_v2


def test_flags_without_effect_are_named() -> None:
    """Who asks for what is not done is told so; who spells out a default is not."""
    found = parse("--socket-reuse-port", "--enable-v2=true", "--experimental-enable-v2v3=x")
    named = [fields for _, text, fields in found.notes if text == "flag has no effect here"]
    assert named == [{"flag-name": "socket-reuse-port"}]


@pytest.mark.parametrize(
    "argv",
    [
        ("--name=n",),
        ("-name", "n"),
        ("--name", "x", "-name=n"),
        ("--name", "n", "--"),
        ("-name=n",),
    ],
)
def test_spellings(argv: tuple[str, ...]) -> None:
    """One dash or two, with or without "="; the last one counts."""
    assert parse(*argv).name == "n"


def test_booleans_take_no_separate_word() -> None:
    """`--force-new-cluster false` is a switch and a stray word, as in Go."""
    assert parse("--force-new-cluster").force_new_cluster
    assert not parse("--pre-vote=0").pre_vote
    error = refused("--force-new-cluster", "false")
    assert (error.text, error.exit_code) == ('"false" is not a valid flag', 1)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--foo"], "flag provided but not defined: -foo"),
        (["--foo=1"], "flag provided but not defined: -foo"),
        (["--name"], "flag needs an argument: -name"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["--heartbeat-interval=x"], 'invalid value "x" for flag -heartbeat-interval: parse error'),
        (["--snapshot-count=-1"], 'invalid value "-1" for flag -snapshot-count: parse error'),
        (
            ["--snapshot-count=99999999999999999999"],
            'invalid value "99999999999999999999" for flag -snapshot-count: value out of range',
        ),
        (["--pre-vote=maybe"], 'invalid boolean value "maybe" for -pre-vote: parse error'),
        (
            ["--grpc-keepalive-min-time=3"],
            'invalid value "3" for flag -grpc-keepalive-min-time: parse error',
        ),
        (
            ["--initial-cluster-state=foo"],
            'invalid value "foo" for flag -initial-cluster-state: invalid value "foo"',
        ),
        (
            ["--listen-peer-urls=foo"],
            'invalid value "foo" for flag -listen-peer-urls: '
            "URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            ["--listen-peer-urls=http://127.0.0.1"],
            'invalid value "http://127.0.0.1" for flag -listen-peer-urls: '
            'URL address does not have the form "host:port": http://127.0.0.1',
        ),
        (
            ["--listen-peer-urls=http://127.0.0.1:2/x"],
            'invalid value "http://127.0.0.1:2/x" for flag -listen-peer-urls: '
            "URL must not contain a path: http://127.0.0.1:2/x",
        ),
        (
            ["--feature-gates=Nope=true"],
            'invalid value "Nope=true" for flag -feature-gates: unrecognized feature gate: Nope',
        ),
    ],
)
def test_mistakes_in_flags_end_with_usage_and_code_2(argv: list[str], text: str) -> None:
    """Go's flag package speaks; the process ends with 2."""
    error = refused(*argv)
    assert (error.text, error.usage, error.exit_code) == (text, True, 2)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["foo"], '"foo" is not a valid flag'),
        (["-"], '"-" is not a valid flag'),
        (
            ["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            ["--listen-client-urls=http://:1", "--advertise-client-urls=http://x:1"],
            "expected IP in URL for binding (http://:1)",
        ),
        (
            ["--initial-advertise-peer-urls=http://:2380"],
            '--initial-advertise-peer-urls "http://:2380" must be "host:port" '
            "(unexpected empty host (http://:2380))",
        ),
        (
            ["--heartbeat-interval=500", "--election-timeout=500"],
            "--election-timeout[500ms] should be at least as 5 times as "
            "--heartbeat-interval[500ms]",
        ),
        (
            ["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            ["--discovery=http://x/", "--initial-cluster=a=http://x:1"],
            "multiple discovery or bootstrap flags are set. Choose one of "
            '"initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"',
        ),
        (["--discovery-token=t"], "both --discovery-token and --discovery-endpoints must be set"),
        (
            ["--enable-v2", "--v2-deprecation=gone"],
            "--enable-v2 and --v2-deprecation=gone are mutually exclusive",
        ),
        (["--auto-compaction-mode=x"], 'unknown auto-compaction-mode "x"'),
        (["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (["--logger=foo"], 'unknown logger option "foo"'),
        (["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (["--log-outputs=default,stderr"], 'multi logoutput for "default" is not supported yet'),
        (["--log-level=foo"], 'unrecognized level: "foo"'),
        (
            ["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            ["--enable-log-rotation", "--log-outputs=/x.log", "--log-rotation-config-json=x"],
            "improperly formatted log rotation config: "
            "invalid character 'x' looking for beginning of value",
        ),
        (["--tls-min-version=x"], 'unexpected TLS version "x"'),
        (
            ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            ["--cipher-suites=TLS_AES_128_GCM_SHA256,TLS_RSA_WITH_RC4_128_SHA,x"],
            'unexpected TLS cipher suite "x"',
        ),
        (
            ["--tls-min-version=TLS1.3", "--cipher-suites=a"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            ["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires "
            "enabling feature gate LeaseCheckpoint",
        ),
        (["--distributed-tracing-sampling-rate=-1"], "tracing sampling rate must be positive"),
        (
            ["--distributed-tracing-sampling-rate=1000001"],
            "tracing sampling rate must be less than 1000000",
        ),
        (
            ["--experimental-corrupt-check-time=1s", "--corrupt-check-time=1s"],
            "cannot set --experimental-corrupt-check-time and --corrupt-check-time "
            "at the same time, please use --corrupt-check-time only",
        ),
        (
            ["--experimental-initial-corrupt-check", "--feature-gates=InitialCorruptCheck=false"],
            "cannot specify both flags: --experimental-initial-corrupt-check=true and "
            "--feature-gates=InitialCorruptCheck=false at the same time, please just use "
            "--feature-gates=InitialCorruptCheck=false",
        ),
        (["--config-file=/nonexistent"], "open /nonexistent: no such file or directory"),
    ],
)
def test_settings_that_do_not_fit_end_with_code_1(argv: list[str], text: str) -> None:
    """etcd's own checks; the process ends with 1."""
    error = refused(*argv)
    assert (error.text, error.usage, error.exit_code) == (text, False, 1)


def test_environment() -> None:
    """--my-flag is ETCD_MY_FLAG; an empty variable is no variable."""
    found = parse(ETCD_NAME="env", ETCD_DATA_DIR="", ETCD_ELECTION_TIMEOUT="2000", HOME="/x")
    assert (found.name, found.data_dir, found.election_timeout) == ("env", "env.etcd", 2000)
    assert found.given == {"name", "election-timeout"}


def test_a_flag_wins_over_its_variable() -> None:
    """Both set: the flag counts, and a warning says so."""
    found = parse("--name=flag", ETCD_NAME="env")
    assert found.name == "flag"
    assert any(
        level == "warn" and "shadowed by corresponding flag" in text
        for level, text, _ in found.notes
    )


def test_unknown_variables_are_warned_about() -> None:
    """ETCD_FOO is no reason not to start."""
    found = parse(ETCD_FOO="1", ETCD_VERSION="3")
    texts = [text for _, text, _ in found.notes if "unrecognized" in text]
    assert texts == ["unrecognized environment variable"] * 2


def test_bad_variable() -> None:
    """The variable is named, the code is 1."""
    error = refused(ETCD_ELECTION_TIMEOUT="x")
    assert (error.text, error.exit_code) == (
        'invalid value "x" for ETCD_ELECTION_TIMEOUT: parse error',
        1,
    )


def test_initial_cluster_follows_the_name() -> None:
    """`etcd --name n` alone is a cluster of n; with discovery there is no list."""
    assert parse("--name=n").initial_cluster == "n=http://localhost:2380"
    assert parse("--discovery=http://d/t").initial_cluster == ""
    several = parse("--initial-cluster=a=http://x:1,b=http://y:1,a=http://x:2").members
    assert several == {"a": ("http://x:1", "http://x:2"), "b": ("http://y:1",)}


def test_url_lists_are_sorted_and_unique() -> None:
    """Order and repetition do not matter."""
    text = "http://127.0.0.1:2,http://127.0.0.1:1,http://127.0.0.1:2,unix://x.sock"
    found = parse(f"--listen-peer-urls={text}").listen_peer_urls
    assert found == ("http://127.0.0.1:1", "http://127.0.0.1:2", "unix://x.sock")


def test_old_spellings_still_work() -> None:
    """Experimental names, etcd 2's and 0.4's flags set what took their place, with a warning."""
    found = parse(
        "--experimental-compaction-batch-limit=7",
        "--experimental-initial-corrupt-check",
        "--experimental-enable-lease-checkpoint=true",
        "--debug",
        "--addr=127.0.0.1:4001",
        "--force",
        "--snapshot=1",
    )
    assert found.compaction_batch_limit == 7
    assert found.features["InitialCorruptCheck"]
    assert found.features["LeaseCheckpoint"]
    assert found.log_level == "debug"
    assert found.advertise_client_urls == ("http://127.0.0.1:4001",)
    ignored = [fields for _, text, fields in found.notes if "no longer supported" in text]
    assert ignored == [{"flag-name": "force"}, {"flag-name": "snapshot"}]


def test_feature_groups() -> None:
    """AllAlpha turns its stage on; a gate's own word wins."""
    found = parse("--feature-gates=AllAlpha=true,PriorityRequest=false").features
    assert found["LeaseCheckpoint"]
    assert not found["PriorityRequest"]


@pytest.mark.parametrize(
    ("mode", "text", "kept"),
    [
        ("periodic", "0", 0),
        ("periodic", "2", 7200 * SECOND),
        ("periodic", "1m30s", 90 * SECOND),
        ("revision", "1000", 1000),
    ],
)
def test_compaction_retention(mode: str, text: str, kept: int) -> None:
    """Bare numbers are hours or revisions, by mode."""
    found = parse(f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={text}")
    assert compaction_retention(found) == kept


def test_config_file(tmp_path: Path) -> None:
    """The file replaces flags and environment; TLS settings stand in maps; unknown keys pass."""
    file = tmp_path / "etcd.yml"
    file.write_text(
        """
name: 7
data-dir: /d
heartbeat-interval: 50
election-timeout: 500
grpc-keepalive-min-time: 1000000000
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: http://127.0.0.1:1
cert-file: not-read-here
client-transport-security:
  cert-file: c.pem
  client-cert-auth: true
peer-transport-security:
  trusted-ca-file: ca.pem
  allowed-cn: [a, b]
socket-options:
  reuse-port: true
log-outputs: [stderr, /tmp/x.log]
auto-compaction-retention: "1"
unknown-key: {a: 1}
"""
    )
    found = parse("--name=flag", f"--config-file={file}", ETCD_NAME="env")
    assert (found.name, found.data_dir, found.heartbeat_interval) == ("7", "/d", 50)
    assert found.grpc_keepalive_min_time == SECOND
    assert found.listen_client_urls == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert (found.cert_file, found.client_cert_auth) == ("c.pem", True)
    assert (found.peer_trusted_ca_file, found.peer_cert_allowed_cn) == ("ca.pem", ("a", "b"))
    assert found.socket_reuse_port
    assert found.log_outputs == ("stderr", "/tmp/x.log")
    assert found.config_file == str(file)
    assert parse(ETCD_CONFIG_FILE=str(file)).name == "7"


@pytest.mark.parametrize(
    "content",
    ["a: [", "- list", "heartbeat-interval: x", "pre-vote: maybe", "listen-peer-urls: foo"],
)
def test_bad_config_file(tmp_path: Path, content: str) -> None:
    """No YAML, or values of a wrong type: an error, code 1."""
    file = tmp_path / "etcd.yml"
    file.write_text(content)
    assert refused(f"--config-file={file}").exit_code == 1


def test_help_and_version_are_asked_for() -> None:
    """They are no Config; --version knows which version to print."""
    for word in ("-h", "--help"):
        with pytest.raises(config.HelpWanted):
            parse(word)
    with pytest.raises(config.VersionWanted) as wanted:
        parse("--version", "--emulate-version=3.5")
    assert wanted.value.emulate_version == "3.5"


def test_help_names_every_flag_with_its_default() -> None:
    """Operators and tests read defaults from the help."""
    text = help_text()
    for name in FLAGS:
        assert f"  --{name} '" in text
    assert "--data-dir '${name}.etcd'" in text
    assert "--grpc-keepalive-interval '2h0m0s'" in text
    assert "--proxy 'off'" in text


def test_no_flag_has_two_meanings() -> None:
    """Names, old names and ignored names are disjoint."""
    assert not set(FLAGS) & set(ALIASES)
    assert not (set(FLAGS) | set(ALIASES)) & IGNORED


def test_in_process_settings() -> None:
    """`config.of` is for programs: values have the fields' types."""
    found = config.of({"name": "m", "listen-peer-urls": ("http://127.0.0.1:0",)})
    assert found.members == {"m": ("http://localhost:2380",)}
    with pytest.raises(ConfigError, match="expected IP"):
        config.of({"listen-peer-urls": ("http://:1",)})
    named = config.of({"listen-peer-urls": ("http://somewhere:1",)})
    assert named.listen_peer_urls == ("http://somewhere:1",)


WORDS = st.one_of(
    st.text(max_size=12),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["-", "--"]),
        st.sampled_from(sorted({*FLAGS, *ALIASES, *IGNORED})),
        st.sampled_from(["=", ""]),
        st.one_of(
            st.text(max_size=8), st.sampled_from(["1", "true", "1s", "http://[::1]:1", "a=b"])
        ),
    ),
)


@given(argv=st.lists(WORDS, max_size=4))
def test_any_command_line_is_read_or_refused(argv: list[str]) -> None:
    """No words make anything but a Config or an error that is meant."""
    if any("config-file" in word for word in argv):
        return  # would read whatever file the dice name
    try:
        assert parse(*argv).data_dir
    except (ConfigError, config.HelpWanted, config.VersionWanted):
        pass
