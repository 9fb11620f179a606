"""Who can talk to whom: the graph of a simulation, on nodes 0 to n − 1, the same for the same seed.

| kind | keys | graph |
|---|---|---|
| `complete` | | everybody with everybody |
| `open` | | the same, but nobody is told who the others are: they find each other, as devices do |
| `ring` | | two neighbours each |
| `star` | | node 0 with everybody |
| `watts-strogatz` | `k` and `p`, or `connectivity` (and `p`) | a small world (Watts & Strogatz 1998) |
| `random-geometric` | `mean_degree`, `max_degree` | random places in the unit square, near ones joined |
| `random-regular` | `degree` | equally many neighbours each, at random |
| `flocky-10` | | the ten nodes of Delta Sum Learning's own runner |
| `flocky` | `name` | another one of Flocky's, by its name in the file |
| `file` | `path` | an edge list, a JSON adjacency or GraphML |

**Connectivity.** Chisme's C says how connected a small world is: 1 is the complete graph and 0 a ring,
and the paper does not tell how it goes between them. Here it is linear in the number of neighbours on
each side of the ring: k = 2h, h = 1 + round(C·(⌊n/2⌋ − 1)), so that the number of links never falls as
C grows and both ends are exact; links are rewired with p (0.1 unless told) wherever h is above 1 and
the graph not complete. C = 0.5 gives each of 50 nodes 26 neighbours, and each of 80 nodes 42.

**Delta Sum's graphs.** Its authors drew semi-random graphs of 10, 25 and 50 nodes with 3.3, 3.2 and 4.2
neighbours on average, one to eight each, and looked that none falls apart. Here places are drawn until
that holds: the n·mean_degree/2 nearest pairs are joined, so the mean is exact and the radius follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from grapevine_agent.config.toml_reader import Table, suggestion
from grapevine_lab.simulator import topology_files
from grapevine_lab.simulator.datasets.dataset import data_folder, missing
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    import networkx as nx

_MAX_PLACEMENTS: Final = 10_000
_MAX_DRAWS: Final = 1000
_DIAMETER_MAX_NODES: Final = 1000  # breadth-first from every node: above, it takes seconds
_REWIRED: Final = 0.1

OPEN: Final = "open"
FLOCKY_10: Final = "runner_deltasum_f10-e1"


@dataclass(frozen=True, kw_only=True)
class TopologyPlan:
    """Which graph. A kind reads the fields that the module's table gives it, and ignores the others."""

    kind: str = "complete"
    k: int = 4  # watts-strogatz: neighbours each before rewiring, even
    p: float = _REWIRED  # watts-strogatz: the share of links that are rewired
    connectivity: float | None = None  # watts-strogatz: Chisme's C, instead of k
    mean_degree: float = 4.0  # random-geometric
    max_degree: int = 8  # random-geometric
    degree: int = 4  # random-regular
    name: str = FLOCKY_10  # flocky
    path: Path | None = None  # file


@dataclass(frozen=True, kw_only=True)
class TopologyFacts:
    """What a graph is like. `diameter`, in hops, is None where it would take long to find or there is none."""

    num_nodes: int
    num_links: int
    degree_min: int
    degree_mean: float
    degree_max: int
    num_components: int
    diameter: int | None

    def __str__(self) -> str:
        degrees = f"{self.degree_min} to {self.degree_max}, on average {self.degree_mean:.3g}"
        diameter = "" if self.diameter is None else f", diameter {self.diameter}"
        return f"{self.num_nodes} nodes, {self.num_links} links, neighbours {degrees}{diameter}"


def make_topology(plan: TopologyPlan, num_nodes: int, rng: np.random.Generator, folder: Path | None = None) -> nx.Graph:
    """A connected graph whose nodes are 0 … num_nodes − 1 in this order, without loops.

    The nodes of a `random-geometric` one have their place in the attribute `pos`.

    Args:
        plan: Which kind, and its constants.
        num_nodes: 1 or more.
        rng: All randomness; kinds without any draw nothing from it.
        folder: Where Flocky's graphs are, instead of the usual place for data sets.

    Raises:
        ConfigError: The kind is unknown, cannot be had with so many nodes or these constants, or the
            graph falls apart; the message names the numbers and the remedy.
    """
    import networkx as nx  # noqa: PLC0415 - only simulations pay for it

    if plan.kind not in _MAKERS:
        raise ConfigError(f"topology.kind = {plan.kind!r}: there is no such kind; {suggestion(plan.kind, _MAKERS)}")
    if num_nodes < 1:
        raise ConfigError(f"a topology of {num_nodes} nodes: there must be 1 or more")
    made = _MAKERS[plan.kind](_Wanted(plan=plan, num_nodes=num_nodes, rng=rng, folder=folder))
    # Nodes and links in one order, however they were made: whoever iterates draws the same again.
    graph = nx.Graph()
    graph.add_nodes_from((node, made.nodes[node]) for node in range(num_nodes))
    graph.add_edges_from(sorted((min(link), max(link)) for link in made.edges))
    components = nx.number_connected_components(graph)
    if components > 1:
        raise ConfigError(
            f"topology.kind = {plan.kind!r} with {num_nodes} nodes falls into {components} parts that cannot reach "
            "each other: give it more links, or another seed"
        )
    return graph


def describe(graph: nx.Graph) -> TopologyFacts:
    """Count a graph's links and neighbours. The diameter is found for connected ones of up to 1,000 nodes."""
    import networkx as nx  # noqa: PLC0415 - only simulations pay for it

    degrees = [degree for _, degree in graph.degree]
    components = nx.number_connected_components(graph)
    cheap = components == 1 and len(degrees) <= _DIAMETER_MAX_NODES
    return TopologyFacts(
        num_nodes=len(degrees),
        num_links=graph.number_of_edges(),
        degree_min=min(degrees, default=0),
        degree_mean=float(np.mean(degrees)) if degrees else 0.0,
        degree_max=max(degrees, default=0),
        num_components=components,
        diameter=nx.diameter(graph) if cheap else None,
    )


def read_topology(table: Table, base: Path | None = None) -> TopologyPlan:
    """Read `kind` and the keys that this kind knows (see the module's table); any other key is an error.

    A relative `path` starts at `base`, usually the scenario's folder; None: the working directory.
    Raises `ConfigError` naming key, value and remedy.
    """
    kind = table.text("kind", TopologyPlan.kind)
    if kind not in _MAKERS:
        raise table.error("kind", f"there is no such topology; {suggestion(kind, _MAKERS)}")
    plan = _read(table, kind, base or Path())
    table.finish()
    return plan


def _read(table: Table, kind: str, base: Path) -> TopologyPlan:
    match kind:
        case "watts-strogatz":
            return _read_small_world(table)
        case "random-geometric":
            return TopologyPlan(
                kind=kind,
                mean_degree=table.number("mean_degree", TopologyPlan.mean_degree, low=0.1, high=1e6),
                max_degree=table.integer("max_degree", TopologyPlan.max_degree, low=1, high=10**6),
            )
        case "random-regular":
            return TopologyPlan(kind=kind, degree=table.integer("degree", TopologyPlan.degree, low=1, high=10**6))
        case "flocky":
            return TopologyPlan(kind=kind, name=table.text("name", hint=f'"{FLOCKY_10}"'))
        case "file":
            path = table.text("path", hint='"network.graphml", "network.json" or an edge list "network.txt"')
            return TopologyPlan(kind=kind, path=base / Path(path).expanduser())
        case _:
            return TopologyPlan(kind=kind)


def _read_small_world(table: Table) -> TopologyPlan:
    k = table.optional_integer("k", low=2, high=10**6)
    connectivity = table.number("connectivity", -1.0, low=0.0, high=1.0)
    p = table.number("p", _REWIRED, low=0.0, high=1.0)
    if connectivity >= 0 and k is not None:
        raise table.error("connectivity", "k is written, too, and one decides the other: remove one of them")
    if connectivity >= 0:
        return TopologyPlan(kind="watts-strogatz", p=p, connectivity=connectivity)
    if k is not None and k % 2:
        raise table.error("k", f"must be even, half of them on each side; write k = {k - 1} or k = {k + 1}")
    return TopologyPlan(kind="watts-strogatz", p=p, k=TopologyPlan.k if k is None else k)


# --- the kinds ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Wanted:
    """All that a kind may need to know."""

    plan: TopologyPlan
    num_nodes: int
    rng: np.random.Generator
    folder: Path | None

    def seed(self) -> int:
        """For networkx, which draws with Python's own generator."""
        return int(self.rng.integers(2**32))


def _complete(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    return nx.complete_graph(wanted.num_nodes)


def _ring(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    return nx.cycle_graph(wanted.num_nodes) if wanted.num_nodes > 2 else nx.path_graph(wanted.num_nodes)


def _star(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    return nx.star_graph(wanted.num_nodes - 1)


def _watts_strogatz(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    plan, num_nodes = wanted.plan, wanted.num_nodes
    k, p = plan.k, plan.p
    if plan.connectivity is not None:
        k, p = small_world_of(plan.connectivity, num_nodes, plan.p)
        if k >= num_nodes - 1:
            return _complete(wanted)
        if k == 2:
            return _ring(wanted)
    if k % 2 or not 2 <= k < num_nodes:
        raise ConfigError(
            f"topology.k = {k} with {num_nodes} nodes: k must be even and from 2 to {num_nodes - 1}; "
            "write fewer neighbours or have more nodes"
        )
    try:
        return nx.connected_watts_strogatz_graph(num_nodes, k, p, tries=_MAX_DRAWS, seed=wanted.seed())
    except nx.NetworkXError:
        raise ConfigError(
            f"topology: a small world of {num_nodes} nodes with k = {k} and p = {p:g} fell apart {_MAX_DRAWS} times: "
            "raise k or lower p"
        ) from None


def small_world_of(connectivity: float, num_nodes: int, p: float = _REWIRED) -> tuple[int, float]:
    """Chisme's connectivity C in [0, 1] as Watts and Strogatz' k and p (see the module's docstring).

    `k` is 2 for a ring, and num_nodes − 1 or more for the complete graph; both have p = 0. Raises `ConfigError`.
    """
    if not 0 <= connectivity <= 1:
        raise ConfigError(f"topology.connectivity = {connectivity}: must be from 0 (a ring) to 1 (complete)")
    most = max(1, num_nodes // 2)
    half = 1 + round(connectivity * (most - 1))
    return 2 * half, p if 1 < half < most else 0.0


def _random_geometric(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    plan, num_nodes = wanted.plan, wanted.num_nodes
    num_links = round(num_nodes * plan.mean_degree / 2)
    most = min(plan.max_degree, num_nodes - 1)
    if num_links < num_nodes - 1 or plan.mean_degree > most:
        raise ConfigError(
            f"topology.mean_degree = {plan.mean_degree:g} with {num_nodes} nodes and max_degree = {plan.max_degree}: "
            f"must be from {2 * (num_nodes - 1) / num_nodes:.3g} (with less, they cannot all be reached) to {most}"
        )
    one, other = np.triu_indices(num_nodes, 1)
    for _ in range(_MAX_PLACEMENTS):
        places = wanted.rng.random((num_nodes, 2))
        nearest = np.argsort(np.hypot(*(places[one] - places[other]).T), kind="stable")[:num_links]
        degrees = np.bincount(np.concatenate([one[nearest], other[nearest]]), minlength=num_nodes)
        if degrees.max() > plan.max_degree or degrees.min() < min(1, num_nodes - 1):
            continue
        graph = nx.Graph()
        graph.add_nodes_from((i, {"pos": (float(x), float(y))}) for i, (x, y) in enumerate(places))
        graph.add_edges_from(zip(one[nearest].tolist(), other[nearest].tolist(), strict=True))
        if nx.is_connected(graph):
            return graph
    raise ConfigError(
        f"topology: none of {_MAX_PLACEMENTS} random placements of {num_nodes} nodes gave a connected graph with "
        f"mean_degree = {plan.mean_degree:g} and at most {plan.max_degree} neighbours each: change one of the two"
    )


def _random_regular(wanted: _Wanted) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    degree, num_nodes = wanted.plan.degree, wanted.num_nodes
    if not 1 <= degree < num_nodes or degree * num_nodes % 2:
        raise ConfigError(
            f"topology.degree = {degree} with {num_nodes} nodes: must be below the number of nodes, and their "
            "product even; change one of them"
        )
    for _ in range(_MAX_DRAWS):
        graph = nx.random_regular_graph(degree, num_nodes, seed=wanted.seed())
        if nx.is_connected(graph):
            break
    return graph


def _flocky(wanted: _Wanted, *, name: str = "") -> nx.Graph:
    path = (wanted.folder or data_folder()) / "topologies" / "flocky_topologies.json"
    if not path.exists():
        raise missing(
            "flocky topologies",
            path,
            "make it from the fog*.json files of github.com/idlab-discover/flocky (a link wherever the ping is at most "
            'maxPing), as {"topologies": {name: {"adjacency": [[neighbours of node 0], …]}}}',
        )
    return topology_files.read_named_adjacency(path, name or wanted.plan.name, wanted.num_nodes)


def _file(wanted: _Wanted) -> nx.Graph:
    if wanted.plan.path is None:
        raise ConfigError('topology.path is missing: write path = "network.graphml", or another kind')
    return topology_files.read_graph(wanted.plan.path, wanted.num_nodes)


_MAKERS: Final[dict[str, Callable[[_Wanted], nx.Graph]]] = {
    "complete": _complete,
    OPEN: _complete,
    "ring": _ring,
    "star": _star,
    "watts-strogatz": _watts_strogatz,
    "random-geometric": _random_geometric,
    "random-regular": _random_regular,
    "flocky-10": partial(_flocky, name=FLOCKY_10),
    "flocky": _flocky,
    "file": _file,
}
TOPOLOGY_KINDS: Final = tuple(_MAKERS)
