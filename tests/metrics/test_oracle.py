"""Our metrics against Go etcd 3.5.1's /metrics: names, kinds, labels and buckets."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum import process_metrics
from corum.metrics import Metrics
from oracle import servers

pytestmark = [pytest.mark.compat, pytest.mark.process]

# Go's runtime in detail, which a Python process does not have.
GO_ONLY = re.compile(r"go_gc_|go_memstats_(?!(alloc|heap_alloc|heap_inuse|sys)_bytes$)|promhttp_")


@pytest.fixture(scope="module")
def go_text(go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("metrics")
    with servers.running(go_program, folder) as server:
        server.http("POST", "/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"}')
        yield server.http("GET", "/metrics")[1].decode()


def kinds(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_every_go_metric_is_ours_with_its_kind(go_text: str) -> None:
    """Dashboards and alerts made for etcd find what they ask for."""
    metrics = Metrics()
    metrics.serve_grpc([("/etcdserverpb.KV/Put", "unary")])
    declared = {name: kind for name, (kind, _, _) in metrics.registry.declared().items()}
    process = "\n".join(process_metrics.lines())
    ours = {**declared, **kinds(metrics.text()), **kinds(process)}
    wanted = {name: kind for name, kind in kinds(go_text).items() if not GO_ONLY.match(name)}
    assert len(wanted) > 90
    assert {name: ours.get(name) for name in wanted} == wanted


def test_buckets_are_gos(go_text: str) -> None:
    """The `le` labels are the same texts, so that histograms of a mixed cluster add up."""
    metrics = Metrics()
    metrics.server.apply_duration_seconds.labels("v3", "Put", "true")
    ours = metrics.text()
    compared = 0
    for name, kind in kinds(ours).items():
        bounds = [
            re.findall(rf'^{name}_bucket{{.*le="([^"]+)"', t, re.MULTILINE) for t in (ours, go_text)
        ]
        if kind == "histogram" and bounds[1]:
            assert bounds[0] == bounds[1][: len(bounds[0])], name
            compared += 1
    assert compared >= 19


def test_labels_are_gos(go_text: str) -> None:
    """Label names, in Go's order."""
    metrics = Metrics()
    metrics.server.apply_duration_seconds.labels("v3", "Put", "true")
    metrics.server.client_requests_total.labels("unary", "unknown").add()
    metrics.server.version.labels("3.5.1").set(1)
    text = metrics.text()
    for line in (
        'etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}',
        'etcd_server_client_requests_total{client_api_version="unknown",type="unary"}',
        'etcd_server_version{server_version="3.5.1"}',
    ):
        assert f"\n{line} " in go_text
        assert f"\n{line} " in text
