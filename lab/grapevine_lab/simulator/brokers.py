"""Which brokers there are, what joins them, and who is at which: `[[broker]]`, `[[bridge]]` and two keys of `[nodes]`.

    [[broker]]           name, its site (by itself, unless it says so), its own latency, its packet limit
    [[bridge]]           owner, to, topics: what Mosquitto's bridge does
    nodes.brokers        who is at which: shares, or a list; else everybody of a site is at all of its brokers
    nodes.gateways       which of those at several carry between them

Without a table there is one broker, and everybody is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypedDict

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.net.packet_limit import SMALLEST_BYTES
from grapevine_lab.simulator.broker_topics import check_filter
from grapevine_lab.simulator.packets import LARGEST_BYTES, OWN_PACKET_BYTES

AND: Final = "+"  # joins the names of the brokers that a share of the nodes is at
MOST_BROKERS: Final = 100
Places: TypeAlias = tuple[tuple[int, ...], ...]  # the brokers of each node, by number; none: all are at the first


@dataclass(frozen=True, kw_only=True)
class BrokerPlan:
    """One of `[[broker]]`."""

    name: str = "broker"
    site: str = "broker"
    latency_s: float | None = None  # one way, from node to node by this broker; None: as the network's
    packet_limit_bytes: int = 0  # the largest packet that it takes; 0: any
    packet_limit_announced: bool = True  # whether it says so; else it closes the connection, as in MQTT 3.1.1


@dataclass(frozen=True, kw_only=True)
class BridgePlan:
    """One of `[[bridge]]`: brokers by number. The owner makes the connection, and makes it again when it is lost."""

    owner: int
    to: int
    topics: tuple[str, ...] = ("#",)
    latency_s: float | None = None


ONE: Final = (BrokerPlan(),)


def announced_by(plan: BrokerPlan) -> int:
    """The largest packet that agents send to a broker, by what it says and what they are set to."""
    said = plan.packet_limit_bytes if plan.packet_limit_announced else 0
    return min(said or OWN_PACKET_BYTES, OWN_PACKET_BYTES)


def read_brokers(tables: Sequence[Table]) -> tuple[BrokerPlan, ...]:
    """Read `[[broker]]`. Raises ConfigError naming key, value and remedy."""
    plans: list[BrokerPlan] = []
    for table in tables:
        name = table.text("name", hint='"north"', max_length=64)
        if AND in name:
            raise table.error("name", f"must be without {AND!r}, which joins names in nodes.brokers")
        if name in (each.name for each in plans):
            raise table.error("name", "is another broker's already; give each a name of its own")
        site, limit = table.text("site", name, max_length=64), _packet_limit(table)
        plans.append(BrokerPlan(name=name, site=site, latency_s=_latency_s(table), **limit))
        table.finish()
    if len(plans) > MOST_BROKERS:
        raise tables[-1].error("name", f"is the name of broker {len(plans)}; write {MOST_BROKERS} at most")
    return tuple(plans) or ONE


class _Limit(TypedDict, total=False):
    packet_limit_bytes: int
    packet_limit_announced: bool


def _packet_limit(table: Table) -> _Limit:
    """The largest packet that a broker takes, and whether it says so."""
    is_announced = table.boolean("packet_limit_announced", True)
    if table.anything("packet_limit_bytes") is None:
        if not is_announced:
            raise table.error(
                "packet_limit_announced",
                "says how a limit is told, and there is none; write packet_limit_bytes = 131072",
            )
        return {}
    most = table.integer("packet_limit_bytes", low=SMALLEST_BYTES, high=LARGEST_BYTES)
    return {"packet_limit_bytes": most, "packet_limit_announced": is_announced}


def _latency_s(table: Table) -> float | None:
    """What a broker or a bridge has of its own; nothing is written where it has none."""
    if table.anything("latency_s") is None:
        return None
    return table.number("latency_s", low=0.0, high=3600.0)


def read_bridges(tables: Sequence[Table], brokers: Sequence[BrokerPlan]) -> tuple[BridgePlan, ...]:
    """Read `[[bridge]]`. Raises ConfigError naming key, value and remedy."""
    plans: list[BridgePlan] = []
    joined = list(range(len(brokers)))  # each broker's group of those that bridges join
    for table in tables:
        owner, to = (_number(table, key, table.text(key, hint='"north"'), brokers) for key in ("owner", "to"))
        topics = table.texts("topics", ("#",))
        for each in topics:
            try:
                check_filter(each)
            except ValueError as error:
                raise table.error("topics", f'{error}; write topics = ["#"], below the root') from None
        if joined[owner] == joined[to]:
            raise table.error("to", "closes a ring, in which bridges send everything round for ever; leave one out")
        plans.append(BridgePlan(owner=owner, to=to, topics=topics, latency_s=_latency_s(table)))
        joined = [joined[owner] if group == joined[to] else group for group in joined]
        table.finish()
    return tuple(plans)


def read_places(table: Table, num_nodes: int, brokers: Sequence[BrokerPlan]) -> Places:
    """Read `nodes.brokers`. Raises ConfigError naming key, value and remedy."""
    value: Any = table.anything("brokers")
    if value is None:
        return _by_site(num_nodes, brokers)
    if isinstance(value, dict) and value:
        return _by_share(table, value, num_nodes, brokers)
    if not isinstance(value, list):
        raise table.error(
            "brokers",
            'must be shares of the nodes, { "north" = 3, "north+south" = 1 }, or a list with the brokers of each node',
        )
    places = tuple(_one_place(table, node, each, brokers) for node, each in enumerate(value))
    if len(places) != num_nodes:
        raise table.error(
            "brokers", f"has {len(places)} of {num_nodes} nodes: every node has a broker; write one entry for each"
        )
    return places


def _by_site(num_nodes: int, brokers: Sequence[BrokerPlan]) -> Places:
    """Equal parts of the nodes, in their order, each at all brokers of a site."""
    if len(brokers) == 1:
        return ()
    sites = list(dict.fromkeys(each.site for each in brokers))
    at = [tuple(k for k, each in enumerate(brokers) if each.site == site) for site in sites]
    return tuple(at[node * len(sites) // num_nodes] for node in range(num_nodes))


def _by_share(table: Table, value: dict[str, Any], num_nodes: int, brokers: Sequence[BrokerPlan]) -> Places:
    """Parts of the nodes as large as the shares, in their order."""
    if not all(type(share) in (int, float) and 0 < share < 1e9 for share in value.values()):
        raise table.error("brokers", 'must have shares above 0; write { "north" = 3, "north+south" = 1 }')
    places: list[tuple[int, ...]] = []
    total, so_far = sum(value.values()), 0.0
    for names, share in value.items():
        so_far += share
        at = tuple(_number(table, "brokers", name.strip(), brokers) for name in names.split(AND))
        _no_twice(table, at, names)
        places += [at] * (round(num_nodes * so_far / total) - len(places))
    return tuple(places)


def _one_place(table: Table, node: int, value: Any, brokers: Sequence[BrokerPlan]) -> tuple[int, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise table.error("brokers", f'leaves node {node} without a broker; write "north", or ["north", "south"]')
    at = tuple(_number(table, "brokers", name, brokers) for name in names)
    _no_twice(table, at, f"of node {node}")
    return at


def _no_twice(table: Table, at: tuple[int, ...], what: str) -> None:
    if len(set(at)) < len(at):
        raise table.error("brokers", f"{what} names a broker twice; name each once")


def _number(table: Table, key: str, name: str, brokers: Sequence[BrokerPlan]) -> int:
    names = [each.name for each in brokers]
    if name not in names:
        raise table.error(key, f"there is no broker {name!r}; there are {', '.join(names)}")
    return names.index(name)


def read_gateways(table: Table, num_nodes: int, places: Places) -> tuple[int, ...]:
    """Read `nodes.gateways`: how many of those at several brokers, or which. Raises ConfigError as the others do."""
    value: Any = table.anything("gateways")
    several = [node for node, at in enumerate(places) if len(at) > 1]
    if value is None:
        return ()
    if type(value) is int and value >= 0:
        if value > len(several):
            raise table.error(
                "gateways", f"there are {len(several)} nodes at two brokers or more; let nodes.brokers say more of them"
            )
        return tuple(several[:value])
    if not isinstance(value, list) or not all(type(node) is int and 0 <= node < num_nodes for node in value):
        raise table.error("gateways", f"must be how many, or a list of nodes' numbers below {num_nodes}")
    for node in value:
        if node not in several:
            raise table.error(
                "gateways", f"node {node} is at one broker, and a gateway is between two; say more in nodes.brokers"
            )
    return tuple(sorted(set(value)))
