"""Who can talk to whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.config.toml_reader import Table
from grapevine_lab.simulator.topologies import (
    TOPOLOGY_KINDS,
    TopologyPlan,
    describe,
    make_topology,
    read_topology,
    small_world_of,
)
from grapevine_proto.errors import ConfigError

GIVEN = os.environ.get("GRAPEVINE_DATA", "")
needs_data = pytest.mark.skipif(not GIVEN, reason="GRAPEVINE_DATA is not set")


def make(kind: str, num_nodes: int, seed: int = 0, **constants: Any) -> nx.Graph:
    plan = TopologyPlan(kind=kind, **constants)
    return make_topology(plan, num_nodes, np.random.default_rng(seed))


# --- every kind -----------------------------------------------------------------------------------

RANDOM: dict[str, dict[str, float]] = {
    "watts-strogatz": {"k": 6, "p": 0.3},
    "random-geometric": {"mean_degree": 4.2},
    "random-regular": {"degree": 3},
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_seed_gives_one_connected_graph_and_another_seed_another(kind: str) -> None:
    graphs = [make(kind, 50, seed, **RANDOM[kind]) for seed in (0, 0, 1)]
    edges = [list(graph.edges) for graph in graphs]
    assert edges[0] == edges[1]
    assert edges[0] != edges[2]
    for graph in graphs:
        assert list(graph) == list(range(50))
        assert nx.is_connected(graph)
        assert nx.number_of_selfloops(graph) == 0


def test_graphs_do_not_hang_on_the_order_of_hashes() -> None:
    program = (
        "import numpy as np\n"
        "from grapevine_lab.simulator.topologies import TopologyPlan, make_topology\n"
        "for kind in ('watts-strogatz', 'random-geometric', 'random-regular'):\n"
        "    print([*make_topology(TopologyPlan(kind=kind), 30, np.random.default_rng(0)).edges])\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", ["complete", "ring", "star"])
@pytest.mark.parametrize("num_nodes", [1, 2, 3, 10])
def test_simple_graphs_have_any_number_of_nodes(kind: str, num_nodes: int) -> None:
    facts = describe(make(kind, num_nodes))
    assert facts.num_nodes == num_nodes
    assert facts.num_components == 1
    links = {"complete": num_nodes * (num_nodes - 1) // 2, "ring": num_nodes if num_nodes > 2 else num_nodes - 1}
    assert facts.num_links == links.get(kind, num_nodes - 1)


def test_a_graph_is_described_by_its_figures() -> None:
    facts = describe(make("star", 5))
    assert (facts.degree_min, facts.degree_max, facts.degree_mean, facts.diameter) == (1, 4, 1.6, 2)
    assert str(facts) == "5 nodes, 4 links, neighbours 1 to 4, on average 1.6, diameter 2"
    two_pairs = describe(nx.Graph([(0, 1), (2, 3)]))
    assert (two_pairs.num_components, two_pairs.diameter) == (2, None)
    assert describe(make("ring", 1500)).diameter is None  # it would take long


# --- small worlds ---------------------------------------------------------------------------------


@given(num_nodes=st.integers(3, 120), one=st.floats(0, 1), other=st.floats(0, 1))
def test_more_connectivity_never_means_fewer_links(num_nodes: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    links = [make("watts-strogatz", num_nodes, connectivity=c).number_of_edges() for c in (low, high)]
    assert num_nodes <= links[0] <= links[1] <= num_nodes * (num_nodes - 1) // 2


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4, 5, 25, 50])
def test_connectivity_goes_from_a_ring_to_the_complete_graph(num_nodes: int) -> None:
    for connectivity, kind in ((0.0, "ring"), (1.0, "complete")):
        graph = make("watts-strogatz", num_nodes, connectivity=connectivity)
        assert list(graph.edges) == list(make(kind, num_nodes).edges) or num_nodes < 4


def test_half_connected_nodes_have_half_of_all_neighbours() -> None:
    assert small_world_of(0.5, 50) == (26, 0.1)
    assert small_world_of(0.5, 80, p=0.2) == (42, 0.2)
    assert describe(make("watts-strogatz", 25, connectivity=0.5)).degree_mean == 14


def test_rewiring_is_what_p_says() -> None:
    lattice = make("watts-strogatz", 40, k=4, p=0.0)
    rewired = make("watts-strogatz", 40, k=4, p=0.5)
    assert describe(lattice).degree_min == describe(lattice).degree_max == 4
    moved = set(rewired.edges) - set(lattice.edges)
    assert 0.3 < len(moved) / 80 < 0.7


# --- random geometric, regular --------------------------------------------------------------------


@pytest.mark.parametrize(("num_nodes", "mean_degree"), [(10, 3.3), (25, 3.2), (50, 4.2)])
def test_delta_sums_graphs_have_the_papers_figures(num_nodes: int, mean_degree: float) -> None:
    graph = make("random-geometric", num_nodes, mean_degree=mean_degree)
    facts = describe(graph)
    assert abs(facts.degree_mean - mean_degree) < 0.11  # links are whole: 10 nodes make 3.2 or 3.4
    assert 1 <= facts.degree_min <= facts.degree_max <= 8
    places = np.array([graph.nodes[node]["pos"] for node in graph])
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    joined = nx.to_numpy_array(graph).astype(bool)
    np.fill_diagonal(distance, np.nan)
    assert np.nanmax(distance[joined]) < np.nanmin(distance[~joined & ~np.eye(num_nodes, dtype=bool)])


def test_regular_graphs_have_equally_many_neighbours() -> None:
    facts = describe(make("random-regular", 20, degree=3))
    assert facts.degree_min == facts.degree_max == 3


# --- files ----------------------------------------------------------------------------------------


def path_graph(num_nodes: int) -> list[tuple[int, int]]:
    return list(nx.path_graph(num_nodes).edges)


def test_a_graph_comes_from_an_edge_list_json_or_graphml(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text("# a path\n0 1\n1, 2  # weight unknown\n\n2 3 0.5\n")
    (tmp_path / "links.json").write_text("[[1], [0, 2], [3], []]")
    (tmp_path / "named.json").write_text(json.dumps({"adjacency": [[1], [2], [3], []]}))
    nx.write_graphml(nx.path_graph(4), tmp_path / "links.graphml")
    nx.write_graphml(nx.relabel_nodes(nx.path_graph(4), {0: "kitchen", 1: "hall"}), tmp_path / "rooms.graphml")
    for name in ("links.txt", "links.json", "named.json", "links.graphml", "rooms.graphml"):
        assert list(make("file", 4, path=tmp_path / name).edges) == path_graph(4), name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "0 1\n", r"falls into 2 parts.*more links"),
        ("a.txt", "0 one\n", "a.txt, line 1: '0 one' is no link"),
        ("a.txt", "0 1\n1 3\n", "a link to node 3, but the 3 nodes are called 0 to 2"),
        ("a.txt", "0 1\n1 1\n", "node 1 is its own neighbour"),
        ("a.json", "[[1], [0]]", "a graph of 2 nodes, and the scenario has 3"),
        ("a.json", "{", "this is not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"nodes": 3}', "for each node, the list of its neighbours"),
        ("a.json", "[[1], [2], [true]]", "a link to node True"),
        ("a.graphml", "<graphml>", "this is not GraphML"),
        ("a.graphml", "no xml", "this is not GraphML"),
        ("a.txt", None, "there is no such file"),
    ],
)
def test_a_file_that_is_no_graph_for_these_nodes_is_told(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        make("file", 3, path=tmp_path / name)


@needs_data
def test_flockys_ten_nodes_are_there_and_others_by_their_name() -> None:
    facts = describe(make("flocky-10", 10))
    assert (facts.num_links, facts.degree_mean, facts.num_components) == (17, 3.4, 1)
    assert describe(make("flocky", 25, name="generator_d20_fog_f25-e1")).degree_mean == 8.56
    with pytest.raises(ConfigError, match="falls into 4 parts"):
        make("flocky", 25, name="generator_d10_fog_f25-e1")
    with pytest.raises(ConfigError, match="did you mean 'runner_deltasum_f10-e1'"):
        make("flocky", 10, name="runner_deltasum_f10")
    with pytest.raises(ConfigError, match="a graph of 10 nodes, and the scenario has 11"):
        make("flocky-10", 11)


def test_flockys_graphs_that_are_not_there_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"there is no {tmp_path}.*idlab-discover/flocky.*GRAPEVINE_DATA"):
        make_topology(TopologyPlan(kind="flocky-10"), 10, np.random.default_rng(0), tmp_path)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "num_nodes", "constants", "message"),
    [
        ("rign", 5, {}, "did you mean 'ring'"),
        ("ring", 0, {}, "must be 1 or more"),
        ("watts-strogatz", 5, {"k": 3}, "k must be even and from 2 to 4"),
        ("watts-strogatz", 5, {"k": 6}, "k must be even and from 2 to 4"),
        ("watts-strogatz", 5, {"connectivity": 1.5}, "from 0 .* to 1"),
        ("random-geometric", 10, {"mean_degree": 1.5}, "from 1.8 .* to 8"),
        ("random-geometric", 10, {"mean_degree": 8.5}, "from 1.8 .* to 8"),
        ("random-regular", 5, {"degree": 3}, "their product even"),
        ("random-regular", 5, {"degree": 5}, "below the number of nodes"),
        ("random-regular", 6, {"degree": 1}, "falls into 3 parts"),
        ("file", 5, {}, "topology.path is missing"),
    ],
)
def test_what_cannot_be_had_is_told_with_numbers_and_remedy(
    kind: str, num_nodes: int, constants: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(kind, num_nodes, **constants)


def test_places_that_never_connect_are_told() -> None:
    with pytest.raises(ConfigError, match="none of 10000 random placements of 40 nodes"):
        make("random-geometric", 40, mean_degree=1.95)


# --- from a scenario ------------------------------------------------------------------------------


def read(entries: dict[str, object], base: Path | None = None) -> TopologyPlan:
    return read_topology(Table(entries, source="scenario.toml", name="topology"), base)


def test_a_scenario_names_its_topology(tmp_path: Path) -> None:
    assert read({}) == TopologyPlan()
    assert read({"kind": "watts-strogatz", "k": 6}) == TopologyPlan(kind="watts-strogatz", k=6)
    assert read({"kind": "watts-strogatz", "connectivity": 0}) == TopologyPlan(kind="watts-strogatz", connectivity=0.0)
    assert read({"kind": "random-geometric", "mean_degree": 3.3}) == TopologyPlan(
        kind="random-geometric", mean_degree=3.3
    )
    assert read({"kind": "file", "path": "net.json"}, tmp_path).path == tmp_path / "net.json"
    assert read({"kind": "flocky", "name": "generator_fog_f60-e1"}).name == "generator_fog_f60-e1"


@pytest.mark.parametrize("kind", [kind for kind in TOPOLOGY_KINDS if kind not in ("file", "flocky")])
def test_every_kind_can_be_read_with_its_defaults(kind: str) -> None:
    assert read({"kind": kind}) == TopologyPlan(kind=kind)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "comlete"}, "topology.kind = 'comlete'.*did you mean 'complete'"),
        ({"kind": "ring", "degree": 3}, "topology.degree: unknown key"),
        ({"kind": "random-regular", "degre": 3}, "did you mean 'degree'"),
        ({"kind": "watts-strogatz", "k": 5}, "write k = 4 or k = 6"),
        ({"kind": "watts-strogatz", "k": 4, "connectivity": 0.5}, "k is written, too"),
        ({"kind": "watts-strogatz", "connectivity": 2}, "from 0 to 1"),
        ({"kind": "file"}, "topology.path is missing"),
    ],
)
def test_a_mistake_in_a_scenario_names_key_value_and_remedy(entries: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(entries)
