"""Metrics: scraped over HTTP after real calls, bounded in number, closed with the server."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tls_kit import infer
from wire_kit import FakeHalf, LoopThread, StartServer, fake_or_error, free_port

from fpcodec import errors
from fpcodec_server.metrics import ServerMetrics
from fpcodec_server.operations import Operations


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(x.name, tuple(sorted(x.labels.items()))): x.value for f in families for x in f.samples}


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def test_calls_are_seen_by_a_scrape(start_server: StartServer) -> None:
    operations = Operations(metrics_listen="127.0.0.1:0")
    half = FakeHalf(fake_or_error(errors.Truncated("short"), on=b"damaged"))
    server = start_server(half, operations=operations)
    infer(server)
    infer(server)
    with pytest.raises(errors.Truncated):
        infer(server, frame=b"damaged")
    samples = scrape(operations.metrics.port)
    requests = "fpcodec_requests_total"
    assert samples[requests, labels(method="Infer", code="OK")] == 2
    assert samples[requests, labels(method="Infer", code="INVALID_ARGUMENT")] == 1
    assert samples["fpcodec_request_seconds_count", labels(method="Infer")] == 3
    assert 0 < samples["fpcodec_request_seconds_sum", labels(method="Infer")] < 5
    assert samples["fpcodec_received_bytes_total", labels(method="Infer")] > 3 * 16
    assert samples["fpcodec_sent_bytes_total", labels(method="Infer")] > 2 * 60
    stream = bytes(range(32)).hex()
    assert samples["fpcodec_profile_info", labels(profile="fake", stream=stream)] == 1


def test_everything_that_can_be_counted_has_a_name_and_a_unit() -> None:
    metrics = ServerMetrics()
    metrics.request_ended("InferStream", "OK", 1.5, 2000, 300)
    metrics.shed("queue_full")
    metrics.batch_run(4, 0.25)
    for stage in ("queue", "decode", "reconstruct", "head"):
        metrics.stage(stage, 0.01)
    metrics.decode_error("Truncated")
    metrics.worker_lost()
    metrics.set_queue(3, 4500)
    metrics.stream_opened()
    metrics.stream_opened()
    metrics.stream_closed()
    sample = metrics.registry.get_sample_value
    assert sample("fpcodec_shed_requests_total", {"reason": "queue_full"}) == 1
    assert sample("fpcodec_batch_frames_sum") == 4
    assert sample("fpcodec_batch_seconds_sum") == 0.25
    assert sample("fpcodec_stage_seconds_count", {"stage": "reconstruct"}) == 1
    assert sample("fpcodec_decode_errors_total", {"kind": "Truncated"}) == 1
    assert sample("fpcodec_workers_lost_total") == 1
    assert (sample("fpcodec_queue_frames"), sample("fpcodec_queue_bytes")) == (3, 4500)
    assert sample("fpcodec_open_streams") == 1


def test_what_was_served_before_is_no_longer_said() -> None:
    metrics = ServerMetrics()
    metrics.set_profiles({"old": "00", "kept": "11"})
    metrics.set_profiles({"kept": "11", "new": "22"})
    (family,) = [x for x in metrics.registry.collect() if x.name == "fpcodec_profile_info"]
    assert [x.labels["profile"] for x in family.samples] == ["kept", "new"]


def test_kinds_of_errors_are_a_closed_set() -> None:
    metrics = ServerMetrics()
    for n in range(100):
        metrics.decode_error(f"Invented{n}")
    sample = metrics.registry.get_sample_value
    assert sample("fpcodec_decode_errors_total", {"kind": "other"}) == 100


def test_unknown_calls_make_no_series(start_server: StartServer) -> None:
    import grpc

    operations = Operations()
    server = start_server(FakeHalf(), operations=operations)
    with grpc.insecure_channel(server.address) as channel:
        for n in range(5):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/fpcodec.v1.CodecService/Guess{n}")(b"", timeout=5)
    (family,) = [x for x in operations.metrics.registry.collect() if x.name == "fpcodec_requests"]
    assert family.samples == []


def test_servers_do_not_share_counters(start_server: StartServer) -> None:
    both = [Operations(), Operations()]
    for operations in both:
        infer(start_server(FakeHalf(), operations=operations))
    for operations in both:
        sample = operations.metrics.registry.get_sample_value
        assert sample("fpcodec_requests_total", {"method": "Infer", "code": "OK"}) == 1


def test_the_port_is_closed_with_the_server(
    start_server: StartServer, loop_thread: LoopThread
) -> None:
    operations = Operations(metrics_listen="127.0.0.1:0")
    server = start_server(FakeHalf(), operations=operations)
    port, threads = operations.metrics.port, threading.active_count()
    assert scrape(port)
    loop_thread.run(server.stop(0))
    with pytest.raises(urllib.error.URLError):
        scrape(port)
    assert operations.metrics.port == 0
    assert threading.active_count() < threads


def test_a_port_in_use_is_said_in_one_line(start_server: StartServer) -> None:
    listen = f"127.0.0.1:{free_port()}"
    start_server(FakeHalf(), operations=Operations(metrics_listen=listen))
    with pytest.raises(errors.InputError, match=listen):
        start_server(FakeHalf(), operations=Operations(metrics_listen=listen))
