"""What can be done from the page, by who has the token: by asking an agent, or by what a lab gives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from grapevine_agent.dashboard.words import fit
from grapevine_proto.errors import ConfigError, GrapevineError

Ask = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
LabAction = Callable[[Mapping[str, Any]], str]

OF_AGENTS: Final = ("approve", "reject", "pause", "resume")
_MOST_MINUTES: Final = 525_600.0


class Actions:
    """Names, and what they do.

    Args:
        ask: Asks an agent that we talk to: its id ("": one that can speak for reviewers), a method, parameters.
        of_lab: What a lab can do, by name; blocking, and done one after the other.
        name_of: An agent's name, by its id.
    """

    def __init__(
        self,
        *,
        ask: Ask | None = None,
        of_lab: Mapping[str, LabAction] | None = None,
        name_of: Callable[[str], str] = lambda peer: peer,
    ) -> None:
        self._ask = ask
        self._of_lab = dict(of_lab or {})
        self._name_of = name_of
        self._turn = asyncio.Lock()
        self.names = (*(OF_AGENTS if ask is not None else ()), *self._of_lab)

    async def do(self, name: str, params: Mapping[str, Any]) -> str:
        """Do it, and say what was done.

        Raises:
            ValueError: The parameters are wrong.
            GrapevineError: It was refused, or failed.
        """
        if name in self._of_lab:
            return await self._in_the_lab(name, params)
        assert self._ask is not None
        task, peer = _text(params, "task"), _text(params, "peer")
        match name:
            case "approve" | "reject":
                reason = _text(params, "reason")
                if not task or (name == "reject" and not reason.strip()):
                    raise ValueError(f'{name} needs "task"' + (' and "reason"' if name == "reject" else ""))
                said = await self._ask(peer, "review", {"task": task, "approved": name == "approve", "reason": reason})
                named = said.get("name", task) if isinstance(said, dict) else task
                return f"{fit(str(named))}: {'approved' if name == 'approve' else 'rejected'}"
            case "pause" | "resume":
                _check_peer(name, peer)
                asked: dict[str, Any] = {"task": task} if task else {}
                if name == "pause" and params.get("minutes") is not None:
                    asked["for_s"] = 60 * _minutes(params["minutes"])
                await self._ask(peer, name, asked)
                return f"{self._name_of(peer)}: {name}d"
            case _:
                raise ConfigError(f"{name}: there is no such action")

    async def _in_the_lab(self, name: str, params: Mapping[str, Any]) -> str:
        told = dict(params)
        if peer := _text(params, "peer"):
            told["peer"] = self._name_of(peer)
        if name in ("kill", "restart"):
            _check_peer(name, peer)
        if name == "partition":
            sides = _sides(told.pop("groups", None) or told.get("sides"))
            told["sides"] = [[self._name_of(one) for one in side] for side in sides]
        async with self._turn:
            try:
                return fit(await asyncio.to_thread(self._of_lab[name], told))
            except (KeyError, TypeError) as error:
                raise ValueError(f"{name}: something is missing or wrong in what was asked ({error})") from None
            except OSError as error:
                raise GrapevineError(f"{name}: {error.strerror or error}") from None


def _text(params: Mapping[str, Any], key: str) -> str:
    value = params.get(key) if params.get(key) is not None else ""
    if not isinstance(value, str):
        raise ValueError(f'"{key}" is text')
    return value


def _check_peer(name: str, peer: str) -> None:
    if not peer:
        raise ValueError(f'{name} needs "peer"')


def _sides(value: Any) -> list[list[str]]:
    is_pair = isinstance(value, list) and len(value) == 2 and all(isinstance(side, list) and side for side in value)
    if not is_pair or not all(isinstance(one, str) for side in value for one in side):
        raise ValueError('partition needs "sides": two lists of ids or names of peers or brokers, neither empty')
    return cast("list[list[str]]", value)


def _minutes(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST_MINUTES:
        raise ValueError('"minutes" is a number above 0')
    return float(value)
