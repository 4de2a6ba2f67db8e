"""A server as its configuration wants it."""

from __future__ import annotations

from collections.abc import Sequence

from fpcodec_server.catalog import ServedProfile
from fpcodec_server.config import ServerConfig
from fpcodec_server.operations import Operations
from fpcodec_server.server import CodecServer


def server_of(config: ServerConfig, profiles: Sequence[ServedProfile]) -> CodecServer:
    """A server that has not been started.

    Args:
        config: The operator's wishes.
        profiles: Those it names, loaded.

    Raises:
        InputError: A file cannot be used, or two profiles read the same streams.
        MissingDependency: An optional package is needed.
    """
    return CodecServer(
        profiles,
        listen=config.listen,
        limits=config.frames,
        threads=config.threads,
        workers=config.workers,
        queue=config.queue,
        batch=config.batch,
        streams=config.streams,
        providers=config.providers,
        executor=config.executor,
        deadline_s=config.deadline_s,
        notice_s=config.notice_s,
        grace_s=config.grace_s,
        hang_s=config.hang_s,
        operations=Operations.of(config),
        odam=config.odam,
    )
