"""What one client may use: token buckets on a clock of the test's own, and over the wire."""

from __future__ import annotations

import pickle

import pytest
from tls_kit import TOKEN, call_with_metadata, infer, with_tokens
from wire_kit import FakeHalf, StartServer

from fpcodec import errors
from fpcodec_edge import ChannelSecurity
from fpcodec_server.client_limits import ClientLimits, ClientRates
from fpcodec_server.operations import Operations


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def wait_ms(limits: ClientLimits, size_bytes: int = 1, client: str = "a") -> int:
    """Milliseconds that a client is told to wait; 0 where it is let through."""
    try:
        limits.charge(client, size_bytes)
    except errors.Overloaded as error:
        return error.retry_after_ms or -1
    return 0


def test_a_burst_then_a_rate() -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(requests_per_s=8, burst_requests=3), clock)
    assert [wait_ms(limits) for _ in range(5)] == [0, 0, 0, 125, 125]
    clock.now_s += 0.125
    assert [wait_ms(limits) for _ in range(2)] == [0, 125]
    clock.now_s += 60
    assert [wait_ms(limits) for _ in range(4)] == [0, 0, 0, 125]


def test_who_comes_back_when_told_is_let_through() -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(requests_per_s=7, burst_requests=1), clock)
    for _ in range(50):
        assert wait_ms(limits) == 0
        clock.now_s += wait_ms(limits) / 1000


def test_bytes_are_counted_and_a_long_request_is_paid_for_afterwards() -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(bytes_per_s=1000, burst_bytes=500), clock)
    assert [wait_ms(limits, 400), wait_ms(limits, 400)] == [0, 300]
    clock.now_s += 10
    assert wait_ms(limits, 2500) == 0, "longer than any burst, after a pause"
    assert wait_ms(limits, 1) == 2001


def test_a_request_in_parts_is_one_request_and_pays_each_byte_once() -> None:
    clock = Clock()
    rates = ClientRates(requests_per_s=1, burst_requests=1, bytes_per_s=100, burst_bytes=500)
    limits = ClientLimits(rates, clock)
    limits.charge("a", 200)
    limits.charge("a", 100, 200)
    limits.charge("a", 200, 300)
    with pytest.raises(errors.Overloaded, match="requests per second"):
        limits.charge("a", 0)
    clock.now_s += 1
    assert wait_ms(limits, 110) == 100


def test_a_part_too_many_is_told_when_the_whole_may_come_again() -> None:
    limits = ClientLimits(ClientRates(bytes_per_s=100, burst_bytes=500), Clock())
    assert wait_ms(limits, 300) == 0
    limits.charge("a", 100)
    with pytest.raises(errors.Overloaded) as caught:
        limits.charge("a", 150, 100)
    assert caught.value.retry_after_ms == 1500, "250 bytes, of which the bucket has 100"
    with pytest.raises(errors.Overloaded) as caught:
        limits.charge("a", 150, 100, whole=False)
    assert caught.value.retry_after_ms == 4000, "how long it will be, nobody knows: a full bucket"
    limits.charge("a", 100, 100)


@pytest.mark.parametrize("length", [450, 500, 2000])
def test_who_comes_back_with_all_its_parts_when_told_is_let_through(length: int) -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(bytes_per_s=100, burst_bytes=500), clock)
    limits.charge("a", 300)

    def refused_ms() -> int:
        try:
            for before in range(0, length, 50):
                limits.charge("a", 50, before or None, whole=before + 50 == length)
        except errors.Overloaded as error:
            return error.retry_after_ms or -1
        return 0

    clock.now_s += refused_ms() / 1000
    assert refused_ms() == 0


def test_a_refused_request_is_told_the_time_of_its_slower_bucket() -> None:
    rates = ClientRates(requests_per_s=1, burst_requests=1, bytes_per_s=10, burst_bytes=100)
    limits = ClientLimits(rates, Clock())
    assert wait_ms(limits, 100) == 0
    assert wait_ms(limits, 50) == 5000


def test_what_is_owed_is_never_refused_and_waited_off_afterwards() -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(bytes_per_s=100, burst_bytes=500), clock)
    clock.now_s += 60
    limits.owe("a", 300)
    limits.owe("a", 700)
    assert wait_ms(limits, 100) == 6000
    assert wait_ms(limits, 100, client="b") == 0
    clock.now_s += 6
    assert wait_ms(limits, 100) == 0


def test_a_wait_of_ages_still_fits_its_field() -> None:
    limits = ClientLimits(ClientRates(bytes_per_s=0.001), Clock())
    limits.owe("a", 10**9)
    assert wait_ms(limits) == 2**31 - 1


def test_a_long_request_may_come_in_parts_as_it_may_at_once() -> None:
    clock = Clock()
    limits = ClientLimits(ClientRates(bytes_per_s=1000, burst_bytes=500), clock)
    limits.charge("a", 400)
    for before in (400, 800, 1200):
        limits.charge("a", 400, before)
    assert wait_ms(limits, 1) == 1101
    clock.now_s += 1.5
    limits.charge("a", 300)
    with pytest.raises(errors.Overloaded):
        limits.charge("a", 300, 300)


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    rates = ClientRates(requests_per_s=1, burst_requests=2, bytes_per_s=1, burst_bytes=100)
    limits = ClientLimits(rates, clock)
    assert wait_ms(limits, 100) == 0
    assert all(wait_ms(limits, 50) == 50_000 for _ in range(5))
    clock.now_s += 50
    assert wait_ms(limits, 50) == 0


def test_clients_do_not_pay_for_each_other() -> None:
    limits = ClientLimits(ClientRates(requests_per_s=1, burst_requests=1), Clock())
    assert [wait_ms(limits, client=x) for x in "aabb"] == [0, 1000, 0, 1000]


def test_memory_is_bounded_and_the_longest_silent_is_forgotten() -> None:
    limits = ClientLimits(ClientRates(requests_per_s=1, burst_requests=1), Clock(), max_clients=2)
    assert [wait_ms(limits, client=x) for x in "abaca"] == [0, 0, 1000, 0, 1000]
    assert wait_ms(limits, client="b") == 0


@pytest.mark.parametrize(
    "values",
    [
        {"requests_per_s": 0},
        {"bytes_per_s": -1},
        {"requests_per_s": float("nan")},
        {"burst_requests": 0},
        {"burst_bytes": 0},
    ],
    ids=str,
)
def test_rates_without_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(errors.InputError):
        ClientRates(**values)  # type: ignore[arg-type]


def test_the_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(errors.Overloaded("full", 250)))
    assert (str(error), error.retry_after_ms) == ("full", 250)
    assert errors.Overloaded("full").retry_after_ms is None


def test_over_the_wire_a_greedy_client_is_overloaded_and_counted(
    start_server: StartServer,
) -> None:
    half = FakeHalf()
    operations = Operations(rates=ClientRates(requests_per_s=0.01, burst_requests=2))
    server = start_server(half, operations=operations)
    assert [infer(server), infer(server)] == [3, 3]
    with pytest.raises(errors.Overloaded, match="requests per second"):
        infer(server)
    assert call_with_metadata(server)[0] == "RESOURCE_EXHAUSTED"
    assert len(half.frames) == 2
    count = operations.metrics.registry.get_sample_value
    assert count("fpcodec_shed_requests_total", {"reason": "client_limit"}) == 2


def test_tokens_have_limits_of_their_own(start_server: StartServer, tmp_path) -> None:
    rates = ClientRates(requests_per_s=0.01, burst_requests=1)
    server = start_server(FakeHalf(), operations=with_tokens(tmp_path, rates=rates))
    for _ in range(3):
        with pytest.raises(errors.Unauthenticated):
            infer(server)
    assert infer(server, ChannelSecurity(token=TOKEN)) == 3
    with pytest.raises(errors.Overloaded, match="token:camera"):
        infer(server, ChannelSecurity(token=TOKEN))
