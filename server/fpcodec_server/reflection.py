"""Server reflection: lets tools list the calls. Off by default: it tells anybody the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fpcodec.errors import MissingDependency


def add_reflection(service_names: Sequence[str], server: Any) -> None:
    """Let clients ask a server what it serves.

    Args:
        service_names: Full names of the services.
        server: A ``grpc.aio.Server`` that has not started.

    Raises:
        MissingDependency: The package is not installed.
    """
    require_reflection()
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection((*service_names, reflection.SERVICE_NAME), server)


def require_reflection() -> None:
    """Find out early whether the package is installed.

    Raises:
        MissingDependency: It is not.
    """
    try:
        import grpc_reflection.v1alpha.reflection  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "server reflection needs the package grpcio-reflection; install "
            "fpcodec[reflection] or turn reflection off"
        ) from error
