"""Merging expositions, checked with Prometheus' own parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.door.metrics import merge

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def own(read: Series) -> Series:
    return {key: value for key, value in read.items() if not key[0].startswith("hearth_scrape_errors")}


def errors(text: str) -> float:
    return series(text)["hearth_scrape_errors_total", frozenset()]


def replica(values: list[tuple[str, float]]) -> str:
    registry = CollectorRegistry()
    counter = Counter("Invocations", 'Requests, "all"\\of them', ["EndpointName"], registry=registry)
    latency = Histogram("ModelLatency", "us", ["EndpointName"], registry=registry, buckets=(1, 10))
    gauge = Gauge("hearth_in_flight", "now", registry=registry)
    for name, value in values:
        counter.labels(name).inc(value)
        latency.labels(name).observe(value)
        gauge.set(-value)
    return generate_latest(registry).decode()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r", exclude_categories=("Cs", "Cc", "Zl", "Zp")))
awkward = st.one_of(texts, st.sampled_from(['a"b', "a\\b", "a\nb", "a,b", "a}b", 'x="y"', "", "\\n"]))
numbers = st.floats(0, 1e300, allow_nan=False)


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=3).filter(lambda s: "\r" not in s),
                          st.lists(st.tuples(awkward, numbers), max_size=4)), max_size=4,
                unique_by=lambda source: source[0]))  # fmt: skip
def test_nothing_is_lost_or_changed_but_the_labels(sources: list[tuple[str, list[tuple[str, float]]]]) -> None:
    expositions = [({"replica": name}, replica(values)) for name, values in sources]
    expected: Series = {
        (name, labels | {("replica", extra["replica"])}): value
        for extra, text in expositions
        for (name, labels), value in series(text).items()
    }
    assert own(series(merge(expositions).decode())) == expected


def test_each_family_is_stated_once_and_kept_together() -> None:
    text = merge([({"replica": str(n)}, replica([("a", 1.0)])) for n in range(3)]).decode()
    assert text.count("# TYPE ModelLatency histogram") == 1
    assert text.count("# HELP ModelLatency us") == 1
    names = [line.split("{")[0] for line in text.splitlines() if not line.startswith("#")]
    groups = [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]
    assert groups.count("Invocations_total") == 1


def test_a_label_that_is_there_is_kept() -> None:
    text = merge([({"endpoint": "x", "replica": "r"}, 'up{endpoint="mine"} 1\n')]).decode()
    assert own(series(text)) == {("up", frozenset({("endpoint", "mine"), ("replica", "r")})): 1.0}


@pytest.mark.parametrize(
    "broken",
    ["unreachable ConnectError", "up{a=b} 1", "up 1\nup 2", "# TYPE up sideways\nup 1", 'up{a="1",a="2"} 1', "up 1x"],
)
def test_a_broken_source_is_left_out_and_counted(broken: str) -> None:
    before = errors(merge([]).decode())
    text = merge([({"replica": "1"}, broken), ({"replica": "2"}, "fine 1\n")]).decode()
    assert own(series(text)) == {("fine", frozenset({("replica", "2")})): 1.0}
    assert errors(text) == before + 1


def test_a_source_that_disagrees_about_a_type_is_left_out() -> None:
    before = errors(merge([]).decode())
    text = merge([({"r": "1"}, "# TYPE a gauge\na 1\n"), ({"r": "2"}, "# TYPE a counter\na 2\n")]).decode()
    assert own(series(text)) == {("a", frozenset({("r", "1")})): 1.0}
    assert errors(text) == before + 1


@given(st.text())
def test_any_text_gives_a_valid_exposition(text: str) -> None:
    series(merge([({"replica": "1"}, text), ({}, "fine 1\n")]).decode())


KNOWN = {
    "Invocations_total", "Invocation4XXErrors_total", "Invocation5XXErrors_total",
    "ModelLatency_bucket", "ModelLatency_sum", "ModelLatency_count",
    "OverheadLatency_bucket", "OverheadLatency_sum", "OverheadLatency_count",
    "hearth_in_flight", "hearth_replicas", "hearth_waiting", "hearth_scrape_errors_total",
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_bucket", "vllm:kv_cache_usage_perc",
    "haproxy_frontend_http_requests_total", "haproxy_frontend_http_responses_total",
    "haproxy_backend_retry_warnings_total", "haproxy_backend_redispatch_warnings_total",
    "haproxy_frontend_current_sessions", "haproxy_server_status",
}  # fmt: skip
WORDS = {"sum", "rate", "by", "le", "histogram_quantile", "max", "avg", "clamp_min", "label_values"}


def queries(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["expr"]] if isinstance(node.get("expr"), str) else []
        return found + [query for value in node.values() for query in queries(value)]
    return [query for value in node for query in queries(value)] if isinstance(node, list) else []


def test_the_dashboard_asks_for_series_that_exist() -> None:
    file = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
    dashboard = json.loads(file.read_text())
    found = queries(dashboard)
    assert len(found) >= 15
    for query in found:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)|\"[^\"]*\"", " ", query)
        names = set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - WORDS
        assert names, query
        assert names <= KNOWN, query
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
