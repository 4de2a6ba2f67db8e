"""An executor on Ray: one machine or a cluster, with the ``ray`` extra."""

from __future__ import annotations

import os
import signal
import sys
import threading
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
        self.workers = workers
        self._ray, self._started = _joined(workers)
        self._call: Any = self._ray.remote(_call)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start a task."""
        return _promised(self._ray, self._call.remote(function, arguments))

    def close(self) -> None:
        """Stop Ray where it was started here."""
        if self._started:
            self._ray.shutdown()


class RayActorExecutor:
    """Runs functions one after the other in one Ray actor, a process that keeps its state.

    Ray is joined or started as by ``RayExecutor``, and left running at the end: other actors of
    this process may live there.

    Args:
        cpus: What the actor reserves; a fraction lets several share a core.

    Raises:
        MissingDependency: Ray is not installed.
    """

    workers = 1

    def __init__(self, cpus: float = 0.5) -> None:
        self._ray, _ = _joined(None)
        self._actor: Any = self._ray.remote(_Actor).options(num_cpus=cpus).remote()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Queue a call in the actor."""
        return _promised(self._ray, self._actor.call.remote(function, arguments))

    def close(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)


class _Actor:
    def call(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        return function(*arguments)


def _joined(cpus: int | None) -> tuple[Any, bool]:
    """Ray, and whether it was started by this call.

    Raises:
        MissingDependency: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependency('this executor needs Ray: pip install "fpcodec[ray]"') from error
    if ray.is_initialized():
        return ray, False
    # Workers must find what this process finds, wherever it was told to look.
    paths = os.pathsep.join(path for path in sys.path if path)
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": paths}})  # fmt: skip
    _keep_signals()
    return ray, True


def _keep_signals() -> None:
    """Give signals back to Python: Ray ends the process at SIGTERM with a trace of its stack."""
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        # Outside the main thread there is nothing to set.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def _promised(ray: Any, reference: Any) -> Future[Any]:
    """A future with the results and the errors of this project."""
    inner: Future[Any] = reference.future()
    promised: Future[Any] = Future()
    promised.set_running_or_notify_cancel()
    inner.add_done_callback(lambda done: _hand_over(ray, done, promised))
    return promised


def _hand_over(ray: Any, done: Future[Any], promised: Future[Any]) -> None:
    error = done.exception()
    if error is None:
        promised.set_result(done.result())
    elif isinstance(error, ray.exceptions.RayTaskError):
        # What the function itself raised, without Ray's wrapping.
        promised.set_exception(getattr(error, "cause", None) or error)
    else:
        promised.set_exception(
            WorkerLost(f"a Ray worker was lost ({type(error).__name__}); run it again")
        )


def _call(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    return function(*arguments)
