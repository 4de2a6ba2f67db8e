"""An executor on Ray: one machine or a cluster, with the ``ray`` extra."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from fpcodec.errors import MissingDependency, WorkerLost

T = TypeVar("T")


class RayExecutor:
    """Runs functions as Ray tasks.

    Joins the cluster that ``RAY_ADDRESS`` names, else starts Ray on this machine and stops it at
    the end. Paths in arguments must mean the same on every machine of a cluster.

    Args:
        workers: Tasks that run at once where Ray is started here.

    Raises:
        MissingDependency: Ray is not installed.
    """

    def __init__(self, workers: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependency(
                'this executor needs Ray: pip install "fpcodec[ray]"'
            ) from error
        self.workers = workers
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            # Workers must find what this process finds, wherever it was told to look.
            paths = os.pathsep.join(path for path in sys.path if path)
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False,
                     runtime_env={"env_vars": {"PYTHONPATH": paths}})  # fmt: skip
        self._call: Any = ray.remote(_call)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start a task."""
        inner: Future[T] = self._call.remote(function, arguments).future()
        promised: Future[T] = Future()
        promised.set_running_or_notify_cancel()
        inner.add_done_callback(lambda done: self._hand_over(done, promised))
        return promised

    def _hand_over(self, done: Future[T], promised: Future[T]) -> None:
        error = done.exception()
        if error is None:
            promised.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            # What the function itself raised, without Ray's wrapping.
            promised.set_exception(getattr(error, "cause", None) or error)
        else:
            promised.set_exception(
                WorkerLost(f"a Ray worker was lost ({type(error).__name__}); run it again")
            )

    def close(self) -> None:
        """Stop Ray where it was started here."""
        if self._started:
            self._ray.shutdown()


def _call(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    return function(*arguments)
