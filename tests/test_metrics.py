"""/metrics: what a Prometheus reads there, and who may."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from builders import Filler
from pace import wait_for
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.serving import make_server

from threatlens.metrics import Family, Histogram, collect, counter, gauge, histogram_samples, render

NAME = 'we"ird\\source\nname'


def read(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_an_independent_reader_reads_what_is_written() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds, n in ((0.1, 2), (0.5, 1), (7.0, 1)):
        histogram.add(seconds, n)
    text = render(
        [
            counter("source_lines_total", "Lines.", ({"source": NAME}, 3)),
            gauge("nothing", "Left out."),
            Family("ingest_seconds", "histogram", "Time.\nTwo lines", histogram_samples(histogram.as_json())),
        ]
    )

    found = read(text)
    assert [(s.labels, s.value) for s in found["threatlens_source_lines"].samples] == [({"source": NAME}, 3.0)]
    assert "threatlens_nothing" not in found
    assert [(sample.name.rpartition("_")[2], sample.labels.get("le"), sample.value)
            for sample in found["threatlens_ingest_seconds"].samples] == [
        ("bucket", "0.1", 2.0), ("bucket", "1.0", 3.0), ("bucket", "+Inf", 4.0), ("sum", None, 7.7),
        ("count", None, 4.0),
    ]  # fmt: skip


def test_metrics_have_the_sums_of_the_ledger_and_no_name_of_an_attacker(app: Any, services: Any) -> None:
    Filler(services.store).add("Failed password", "Failed password", source="auth", source_ip="203.0.113.9")
    token = services.store.create_token("scraper", "viewer")

    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = read(answer.text)
    lines = {sample.labels["source"]: sample.value for sample in found["threatlens_source_lines"].samples}
    assert lines == {"auth": 2.0}
    assert found["threatlens_up"].samples[0].value == 0
    assert "203.0.113.9" not in answer.text


def test_files_that_nobody_could_open_in_time_are_counted(services: Any) -> None:
    Filler(services.store).add("one", source="auth")
    Filler(services.store).add("two", source="web")
    status = {"vanished": {"web": 2}}

    families = collect(status, services.store, version="1", database_path="", now_us=0, sockets=0)

    found = read(render(families))["threatlens_source_vanished_files"].samples
    assert {sample.labels["source"]: sample.value for sample in found} == {"auth": 0.0, "web": 2.0}


@pytest.mark.parametrize("token", ["", "tl_" + "0" * 43])
def test_metrics_are_not_for_strangers_not_even_on_this_machine(app: Any, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    assert app.test_client().get("/metrics", headers=headers).status_code in (303, 401)


def test_the_rules_for_alerts_and_the_dashboard_name_metrics_that_exist(app: Any, services: Any) -> None:
    import re

    from threatlens import metrics

    source = Path(metrics.__file__).read_text()
    known = {f"threatlens_{name}" for name in re.findall(r'(?:gauge|counter|Family)\(\s*"([a-z_]+)"', source)}
    assert len(known) > 20
    for name in ("prometheus-alerts.yml", "grafana-dashboard.json"):
        text = (Path(__file__).parent.parent / "deploy" / name).read_text()
        used = {re.sub(r"_(bucket|sum|count)$", "", word) for word in re.findall(r"\bthreatlens_[a-z_]+", text)}
        assert used, name
        assert used <= known, f"{name}: {used - known}"
    dashboard = json.loads((Path(__file__).parent.parent / "deploy" / "grafana-dashboard.json").read_text())
    assert len(dashboard["panels"]) >= 6


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_a_real_prometheus_scrapes_it_and_takes_the_alert_rules(app: Any, services: Any, tmp_path: Path) -> None:
    Filler(services.store).add("one", "two", "three", source="auth")
    token = tmp_path / "token"
    token.write_text(services.store.create_token("scraper", "viewer"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    rules = Path(__file__).parent.parent / "deploy" / "prometheus-alerts.yml"
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nrule_files: [{json.dumps(str(rules))}]\nscrape_configs:\n"
        f"  - job_name: threatlens\n    authorization: {{credentials_file: {json.dumps(str(token))}}}\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{server.server_port}']}}]\n"
    )
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ}) as scraper:
        try:
            assert asked(port, 'threatlens_source_lines_total{source="auth"}') == 3.0
            assert asked(port, "threatlens_build_info") == 1.0
        finally:
            scraper.terminate()
            scraper.communicate(timeout=300)
            server.shutdown()
            serving.join(60)


def asked(port: int, expression: str) -> float:
    """The value that this Prometheus has, once it has one."""
    query = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})

    def result() -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(query, timeout=300) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except OSError:
            return []

    return float(wait_for(result, pause_s=0.2)[0]["value"][1])
