"""The timeline of a scenario as what is to be done to machines: each deed at its second after learning began.

| in the scenario | here |
|---|---|
| `[server] present` | the server is started, and killed at the end of a span |
| `[[network.cut]]` | every line between a machine of one group and a broker of another is cut, then healed |
| `off` | killed, and started again; *silent*: its lines are cut before, so that no broker notices |
| `offline` | its lines are cut; unless *silent*, its connections are broken as well |
| `broker` | stopped, so that it saves what it retains, and started again; `empties`: killed, and that removed |
| `cut` | the lines between the site's brokers, with who is at them first, and all others |
| `comes` | it is started then |
| `leaves` | stopped; *silent*: its lines are cut, and it is killed |
| `[[words]]` | said to the owners' agents; who is away, or has not heard of the task, says it within 30 s |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grapevine_agent.control.client import call
from grapevine_lab.simulator.network import Cut
from grapevine_lab.simulator.timeline import Happening, Word, comes_at_s, happenings
from grapevine_lab.testbed.acting import ask, pairs_between
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.furnish import node_of, task_folder
from grapevine_lab.testbed.lines import Pair
from grapevine_lab.testbed.possible import nodes_at
from grapevine_lab.testbed.store import Lab
from grapevine_proto.errors import GrapevineError

SAY_S: Final = 30.0
WORD_PATIENCE_S: Final = 30.0  # in which who speaks may come back, or hear of the task
NO_LINE: Final = "nothing to cut: no line leads out of it"


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What is done at a second. `what` is for people; doing it raises `GrapevineError` where it does not work."""

    at_s: float
    what: str
    do: Callable[[], object]
    ends: bool = False  # of something that went wrong
    patience_s: float = 0.0  # what does not work is tried again for so long


@dataclass
class Deeds:
    """All deeds of a lab. A line that several have cut passes again when the last of them is over."""

    lab: Lab
    horizon_s: float
    gone: set[str] = field(default_factory=set)  # machines that are not to come back
    _cuts: Counter[Pair] = field(default_factory=Counter)
    _tasks: dict[str, str] = field(default_factory=dict)  # the scenario's names of what was published, and their ids

    def all(self) -> list[Deed]:
        """In the order of their times."""
        scenario = self.lab.scenario
        deeds: list[Deed] = []
        for number, (from_s, until_s) in enumerate(scenario.server.present):
            if number or from_s > 0:
                deeds.append(
                    self._of_machine(from_s, "start" if not number else "restart", "server", ends=bool(number))
                )
            if until_s < float("inf"):
                deeds.append(self._of_machine(until_s, "kill", "server"))
        for cut in scenario.network.cuts:
            groups = " | ".join(",".join(map(str, group)) for group in cut.groups)
            deeds += self._cutting(cut.from_s, cut.until_s, f"partition {groups}", self._between(cut))
        for node, machine in enumerate(self.lab.peers):
            if (at_s := comes_at_s(scenario.faults, node)) > 0:
                deeds.append(self._of_machine(at_s, "start", machine.name))
        for each in happenings(scenario.faults, scenario.nodes.num, self.lab.seed, self.horizon_s):
            deeds += self._of_fault(each)
        deeds += [self._of_word(word) for word in scenario.words]
        return sorted((deed for deed in deeds if deed.at_s < self.horizon_s), key=lambda deed: deed.at_s)

    # --- faults -----------------------------------------------------------------------------------

    def _of_fault(self, each: Happening) -> list[Deed]:
        fault, at_s, until_s = each.fault, each.at_s, each.at_s + each.for_s
        match fault.kind:
            case "broker":
                names = [fault.broker] if fault.broker else [broker.name for broker in self.lab.brokers]
                return [
                    deed
                    for name in names
                    for deed in (
                        self._of_machine(at_s, "kill" if fault.empties else "stop", name, empties=fault.empties),
                        self._of_machine(until_s, "restart", name, ends=True),
                    )
                ]
            case "cut":
                sites = {each.name: each.site for each in self.lab.scenario.brokers}
                inside = [name for name, site in sites.items() if site == fault.site]
                outside = [name for name in sites if name not in inside]
                pairs = pairs_between(self.lab.machines, inside, outside) if outside else []
                return self._cutting(at_s, until_s, f"{fault.site} is cut off", pairs)
        machine = self.lab.peers[each.node]
        lines = [(machine.name, broker) for broker in machine.brokers]
        match fault.kind:
            case "off":
                cutting = self._cutting(at_s, until_s, f"{machine.name} is cut off", lines) if fault.silent else []
                return [
                    *cutting,
                    self._of_machine(at_s, "kill", machine.name),
                    self._of_machine(until_s, "restart", machine.name, ends=True),
                ]
            case "offline":
                deeds = self._cutting(at_s, until_s, f"{machine.name} is offline", lines)
                return deeds if fault.silent else [*deeds, self._of_machine(at_s, "drop", machine.name)]
            case "leaves":
                return [self._leaving(at_s, machine, lines if fault.silent else [])]
        return []  # who comes is started by itself

    def _of_machine(self, at_s: float, method: str, name: str, *, ends: bool = False, empties: bool = False) -> Deed:
        def do() -> None:
            if name in self.gone:
                return
            ask(self.lab, method, {"machine": name})
            if empties:
                for file in (self.lab.machine(name).folder / "state").iterdir():
                    file.unlink()

        return Deed(at_s=at_s, what=f"{method} {name}", do=do, ends=ends)

    def _leaving(self, at_s: float, machine: Machine, lines: Sequence[Pair]) -> Deed:
        def do() -> None:
            self.gone.add(machine.name)
            if lines:
                ask(self.lab, "cut", {"pairs": lines})
            ask(self.lab, "kill" if lines else "stop", {"machine": machine.name})

        return Deed(at_s=at_s, what=f"{machine.name} leaves", do=do)

    # --- lines ------------------------------------------------------------------------------------

    def _cutting(self, at_s: float, until_s: float, what: str, pairs: Iterable[Pair]) -> list[Deed]:
        pairs = list(pairs)

        def cut() -> None:
            if not pairs:
                raise GrapevineError(NO_LINE)
            self._cuts.update(pairs)
            ask(self.lab, "cut", {"pairs": pairs})

        def heal() -> None:
            self._cuts.subtract(pairs)
            if healed := [pair for pair in pairs if self._cuts[pair] <= 0]:
                ask(self.lab, "heal", {"pairs": healed})

        return [Deed(at_s=at_s, what=what, do=cut), Deed(at_s=until_s, what=f"heal: {what}", do=heal, ends=True)]

    def _between(self, cut: Cut) -> list[Pair]:
        """The lines between groups. A broker is in the group of the nodes that are at it alone, else in the first."""
        scenario = self.lab.scenario
        groups = {machine.name: 0 for machine in self.lab.machines}
        groups |= {machine.name: cut.group_of(node_of(machine)) for machine in self.lab.peers}
        for number, broker in enumerate(self.lab.brokers):
            if nodes := nodes_at(scenario, number):
                groups[broker.name] = cut.group_of(nodes[0])
        return [
            (machine.name, broker)
            for machine in self.lab.machines
            for broker in machine.brokers
            if groups[machine.name] != groups[broker]
        ]

    # --- words ------------------------------------------------------------------------------------

    def _of_word(self, word: Word) -> Deed:
        machine = self.lab.peers[word.node]

        def say(method: str, params: dict[str, Any]) -> Any:
            return call(self.lab.socket(machine), method, params, SAY_S)

        def do() -> None:
            if word.kind == "publish":
                params: dict[str, Any] = {"folder": str(task_folder(self.lab)), "servers": self.lab.server_ids}
                if word.continues:
                    params["parent"] = self._tasks[word.continues]
                else:
                    params["another"] = True
                told = say("revise" if word.continues else "publish", params)
                self._tasks[word.task] = str(told["task"])
                if not self.lab.task:
                    self.lab.task = self._tasks[word.task]
                    self.lab.write()
                return
            if (task := self._tasks.get(word.task)) is None:
                raise GrapevineError(f"{word.task} was not published")
            reason = "as the scenario says"
            match word.kind:
                case "approve":
                    say("review", {"task": task, "approved": True})
                case "reject":
                    say("review", {"task": task, "approved": False, "reason": reason})
                case "revoke" | "retract":
                    say(word.kind, {"task": task, "reason": reason})

        return Deed(
            at_s=word.at_s, what=f"{machine.name} says {word.kind} {word.task}", do=do, patience_s=WORD_PATIENCE_S
        )
