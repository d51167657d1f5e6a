"""Metrics: the exposition is what Prometheus reads, under etcd's names and types."""

import pytest

from corum import process_metrics
from corum.metrics import Metrics
from corum.prometheus import Registry, exponential, go_float


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.001, "0.001"),
        (8.192, "8.192"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (524288, "524288"),
        (1048576, "1.048576e+06"),
        (8388608.0, "8.388608e+06"),
        (1e21, "1e+21"),
        (-2.5, "-2.5"),
        (float("inf"), "+Inf"),
    ],
)
def test_numbers_look_as_go_prints_them(number: float, text: str) -> None:
    """Label values `le` must equal Go's, or series of mixed clusters do not add up."""
    assert go_float(number) == text


def test_exposition_of_each_kind() -> None:
    """HELP, TYPE, then samples; buckets are cumulative; labels are ordered by name."""
    registry = Registry()
    registry.counter("a_total", "A.").add(3)
    registry.gauge("b", "B.").set(1.5)
    histogram = registry.histogram("c_seconds", "C.", (0.1, 1))
    histogram.observe(0.1)
    histogram.observe(0.5, times=2)
    histogram.observe(7)
    family = registry.counters("d_total", "D.", "type", "api")
    family.labels("unary", 'say "hi"\\').add()
    registry.gauges("unused", "Not shown.", "x")
    assert registry.text().splitlines() == [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        "a_total 3",
        "# HELP b B.",
        "# TYPE b gauge",
        "b 1.5",
        "# HELP c_seconds C.",
        "# TYPE c_seconds histogram",
        'c_seconds_bucket{le="0.1"} 1',
        'c_seconds_bucket{le="1"} 3',
        'c_seconds_bucket{le="+Inf"} 4',
        "c_seconds_sum 8.1",
        "c_seconds_count 4",
        "# HELP d_total D.",
        "# TYPE d_total counter",
        'd_total{api="say \\"hi\\"\\\\",type="unary"} 1',
    ]


def test_a_name_is_declared_once() -> None:
    """Two metrics of one name are our bug."""
    registry = Registry()
    registry.counter("a", "A.")
    with pytest.raises(AssertionError, match="declared twice"):
        registry.gauge("a", "A.")


def test_a_source_is_asked_at_exposition() -> None:
    """What is counted elsewhere is read when somebody looks."""
    metrics = Metrics()
    metrics.mvcc.db_total_size_in_bytes.source = lambda: 4096.0
    text = metrics.text()
    assert "\netcd_mvcc_db_total_size_in_bytes 4096\n" in text
    assert "\netcd_debugging_mvcc_db_total_size_in_bytes 4096\n" in text


def test_exponential_bounds() -> None:
    """`exp(a, f, n)` of etcd's tables."""
    assert exponential(0.001, 2, 14)[-1] == pytest.approx(8.192)
    assert len(exponential(0.0001, 2, 20)) == 20


def test_grpc_metrics_exist_before_the_first_call() -> None:
    """Every method with every code is there with 0, as grpc-prometheus pre-creates them."""
    metrics = Metrics()
    grpc = metrics.serve_grpc(
        [("/etcdserverpb.KV/Range", "unary"), ("/etcdserverpb.Watch/Watch", "bidi")]
    )
    grpc.started[0] += 5
    grpc.handled[0][14] += 1
    lines = metrics.text().splitlines()
    handled = [line for line in lines if line.startswith("grpc_server_handled_total{")]
    assert len(handled) == 2 * 17
    labels = 'grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert f"grpc_server_started_total{{{labels}}} 5" in lines
    assert f'grpc_server_handled_total{{grpc_code="Unavailable",{labels}}} 1' in lines
    assert any('grpc_type="bidi_stream"' in line for line in lines)
    assert not any(line.startswith("grpc_server_handling") for line in lines)


def test_extensive_adds_a_histogram_per_method() -> None:
    """`--metrics extensive` shows how long calls take."""
    metrics = Metrics()
    grpc = metrics.serve_grpc([("/etcdserverpb.KV/Put", "unary")], extensive=True)
    grpc.handling[0].observe_ns(20_000_000)
    labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert f'grpc_server_handling_seconds_bucket{{{labels},le="0.025"}} 1' in metrics.text()


def test_process_metrics_are_there() -> None:
    """Memory, CPU and descriptors are measured; go_* names get stand-ins."""
    samples = dict(
        line.rsplit(" ", 1) for line in process_metrics.lines() if not line.startswith("#")
    )
    assert float(samples["process_resident_memory_bytes"]) > 1_000_000
    assert float(samples["process_start_time_seconds"]) > 1_600_000_000
    assert float(samples["os_fd_used"]) >= 3
    assert float(samples["go_goroutines"]) >= 1
