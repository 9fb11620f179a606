"""The way to a Docker engine, and what to do where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, GrapevineError

_ELSE: Final = "; or take `--engine processes`, which needs none"
SLOW_S: Final = 120


def connect() -> Any:
    """A client of the engine that `DOCKER_HOST` names, or of this machine's. Raises `ConfigError` with the remedy."""
    try:
        import docker  # noqa: PLC0415 - who takes the other engine does without
    except ImportError:
        raise ConfigError(f"Docker's library is not here: {distribution.to_add_extra('lab')}{_ELSE}") from None
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        client = docker.from_env(timeout=SLOW_S)
        client.ping()
    except Exception as error:
        reason = _root_of(error)
        if isinstance(reason, PermissionError):
            raise ConfigError(
                f"this user may not talk to Docker at {where}: `sudo usermod -aG docker $USER` and a new login let "
                f"them{_ELSE}"
            ) from error
        if isinstance(reason, FileNotFoundError | ConnectionRefusedError):
            raise ConfigError(
                f"no Docker engine answers at {where}: install it (Debian: apt-get install docker.io) or start it "
                f"(systemctl start docker){_ELSE}"
            ) from error
        raise ConfigError(f"no Docker engine answers at {where} ({reason}): look at DOCKER_HOST{_ELSE}") from error
    return client


@contextmanager
def told(doing: str) -> Iterator[None]:
    """What the engine refuses becomes a `GrapevineError` that says what was being done."""
    import docker.errors  # noqa: PLC0415
    import requests  # noqa: PLC0415

    try:
        yield
    except docker.errors.APIError as error:
        raise GrapevineError(f"{doing}: Docker says: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise GrapevineError(f"{doing}: Docker does not answer ({_root_of(error)}); look at its log") from error


def _root_of(error: BaseException) -> BaseException:
    """What lies at the bottom of an error of several libraries."""
    seen: BaseException = error
    while True:
        inner = next((each for each in (*_args(seen), seen.__cause__, seen.__context__) if each is not None), None)
        if inner is None or inner is seen:
            return seen
        seen = inner


def _args(error: BaseException) -> list[BaseException]:
    return [each for each in (*error.args, getattr(error, "reason", None)) if isinstance(each, BaseException)]
