"""What one client may ask for per second, so that one cannot crowd out the others."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fpcodec.errors import Overloaded
from fpcodec_server.settings import Section, number, whole

MAX_CLIENTS = 10_000
"""Clients whose use is remembered; the one that was silent longest is forgotten first."""

_MOST_RETRY_MS = 2**31 - 1
"""What the wire's fields for it hold: 24 days. Who is told that is still in debt afterwards."""

_ROUNDING = 1e-6
"""Share of a request or byte that counts as none: a refill of tenths does not add up to one."""


@dataclass(frozen=True)
class ClientRates(Section, name="clients"):
    """What each client may use.

    Attributes:
        requests_per_s: Requests per second in the long run; None for any number.
        burst_requests: Requests that may come at once after a pause.
        bytes_per_s: Bytes of requests per second in the long run; None for any number.
        burst_bytes: Bytes that may come at once after a pause. One longer request is let
            through after a long enough pause, and its excess is waited off afterwards.
    """

    requests_per_s: Annotated[float | None, number(0, above=True, optional=True)] = None
    burst_requests: Annotated[int, whole(1)] = 20
    bytes_per_s: Annotated[float | None, number(0, above=True, optional=True)] = None
    burst_bytes: Annotated[int, whole(1)] = 4_000_000

    @property
    def unlimited(self) -> bool:
        """Whether there is nothing to count."""
        return self.requests_per_s is None and self.bytes_per_s is None


class ClientLimits:
    """Two token buckets per client: requests and bytes.

    All calls belong to one event loop's thread.

    Args:
        rates: What each client may use.
        clock: Monotonic seconds.
        max_clients: Clients that are remembered.
    """

    def __init__(
        self,
        rates: ClientRates,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._max_clients = max_clients
        self._clients: OrderedDict[str, list[_Bucket]] = OrderedDict()

    def charge(
        self, client: str, size_bytes: int, before_bytes: int | None = None, *, whole: bool = True
    ) -> None:
        """Count one request, or a further part of one.

        Parts are let through as the request would be in one piece: what it has paid for counts
        as if it were still in the bucket.

        Args:
            client: Who sent it.
            size_bytes: Its length, or the part's.
            before_bytes: Length of the parts that were counted before; None for its beginning.
            whole: Whether the request ends with this part.

        Raises:
            Overloaded: The client has used up its share. Nothing is counted then, but what came
                before stays so. It says when the request may come again from its beginning; of
                one that is not whole nobody knows the length, and that is when any may: once the
                client's bytes are back to a full burst. Other requests meanwhile put it off.
        """
        begins = before_bytes is None
        costs = (1.0 if begins else 0.0, float(size_bytes))
        paid = (0.0 if begins else 1.0, float(before_bytes or 0))
        needed = (1.0, paid[1] + costs[1] if whole else math.inf)
        buckets = self._buckets_of(client)
        for bucket, cost, already in zip(buckets, costs, paid, strict=True):
            if bucket.lacks(cost, already):
                pairs = zip(buckets, needed, strict=True)
                wait_s = max(each.wait_s(amount) for each, amount in pairs)
                raise Overloaded(
                    f"{client} is above its {bucket.rate:g} {bucket.unit} per second; "
                    f"send again in {wait_s:.1f} s, or less often",
                    retry_after_ms=min(math.ceil(wait_s * 1000), _MOST_RETRY_MS),
                )
        for bucket, cost in zip(buckets, costs, strict=True):
            bucket.level -= cost

    def owe(self, client: str, size_bytes: int) -> None:
        """Count bytes that are refused to nobody: what comes later waits until they are paid.

        Args:
            client: Who sent them.
            size_bytes: So many.
        """
        _, bucket = self._buckets_of(client)
        bucket.level -= size_bytes

    def _buckets_of(self, client: str) -> list[_Bucket]:
        """A client's requests and bytes, as they are now."""
        now_s = self._clock()
        buckets = self._clients.get(client)
        if buckets is None:
            rates = self._rates
            buckets = self._clients[client] = [
                _Bucket("requests", rates.requests_per_s, rates.burst_requests, now_s),
                _Bucket("bytes", rates.bytes_per_s, rates.burst_bytes, now_s),
            ]
            if len(self._clients) > self._max_clients:
                self._clients.popitem(last=False)
        self._clients.move_to_end(client)
        for bucket in buckets:
            bucket.refill(now_s)
        return buckets


class _Bucket:
    def __init__(self, unit: str, rate: float | None, burst: int, now_s: float) -> None:
        self.unit = unit
        self.rate = math.inf if rate is None else rate
        self.level = float(burst)
        self._burst = float(burst)
        self._filled_s = now_s

    def refill(self, now_s: float) -> None:
        if math.isinf(self.rate):
            self.level = self._burst
        else:
            self.level = min(self._burst, self.level + (now_s - self._filled_s) * self.rate)
        self._filled_s = now_s

    def lacks(self, cost: float, paid: float) -> bool:
        """Whether a cost may not be taken out now, by who has paid so much for the same."""
        return self._at_most_full(paid + cost) - (self.level + paid) > _ROUNDING

    def wait_s(self, amount: float) -> float:
        """Seconds until so much may be taken out at once."""
        return max(0.0, self._at_most_full(amount) - self.level) / self.rate

    def _at_most_full(self, amount: float) -> float:
        # What is longer than a full bucket would never pass: it passes a full one, into debt.
        return min(amount, self._burst)
