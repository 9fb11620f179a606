"""Graphs from files: an edge list, a JSON adjacency or GraphML.

| ends in | holds |
|---|---|
| `.json` | a list with, for each node, the list of its neighbours; or `{"adjacency": that list}` |
| `.graphml` | GraphML; nodes are numbered in the order of the file unless they are called 0 to n − 1 |
| anything else | two node numbers on each line, `#` begins a comment |

Links have no direction: one that is given once in a JSON adjacency counts for both its ends.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from grapevine_agent.config.toml_reader import suggestion
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    import networkx as nx


def read_graph(path: Path, num_nodes: int) -> nx.Graph:
    """The graph in `path`, on nodes 0 … num_nodes − 1.

    Raises `ConfigError` when it cannot be read or is not for `num_nodes` nodes.
    """
    match path.suffix.lower():
        case ".json":
            content = _read_json(path)
            return _of_adjacency(content.get("adjacency") if isinstance(content, dict) else content, path, num_nodes)
        case ".graphml":
            return _read_graphml(path, num_nodes)
        case _:
            return _read_edge_list(path, num_nodes)


def read_named_adjacency(path: Path, name: str, num_nodes: int) -> nx.Graph:
    """The graph called `name` in a JSON file `{"topologies": {name: {"adjacency": …}}}`. Raises `ConfigError`."""
    content = _read_json(path)
    topologies = content.get("topologies") if isinstance(content, dict) else None
    if not isinstance(topologies, dict):
        raise ConfigError(f'{path}: holds no {{"topologies": {{…}}}}')
    if not isinstance(topologies.get(name), dict):
        raise ConfigError(f"topology.name = {name!r}: {path} has none of this name; {suggestion(name, topologies)}")
    return _of_adjacency(topologies[name].get("adjacency"), path, num_nodes)


def _of_adjacency(adjacency: object, path: Path, num_nodes: int) -> nx.Graph:
    if not isinstance(adjacency, list) or not all(isinstance(row, list) for row in adjacency):
        raise ConfigError(f"{path}: must hold, for each node, the list of its neighbours, as in [[1], [0, 2], [1]]")
    if len(adjacency) != num_nodes:
        raise _wrong_number(path, len(adjacency), num_nodes)
    return _graph([(node, other) for node, row in enumerate(adjacency) for other in row], path, num_nodes)


def _read_edge_list(path: Path, num_nodes: int) -> nx.Graph:
    links: list[tuple[object, object]] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        words = line.split("#", 1)[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) < 2 or not all(word.isdecimal() for word in words[:2]):
            raise ConfigError(f"{path}, line {number}: {line!r} is no link; write two node numbers, as in 0 1")
        links.append((int(words[0]), int(words[1])))
    return _graph(links, path, num_nodes)


def _read_graphml(path: Path, num_nodes: int) -> nx.Graph:
    from xml.etree.ElementTree import ParseError  # noqa: PLC0415 - the author's own file; only the error's name

    import networkx as nx  # noqa: PLC0415

    text = _read_text(path)
    try:
        read = nx.parse_graphml(text)
    except (nx.NetworkXError, ParseError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: this is not GraphML ({error}); networkx.write_graphml writes it") from None
    if len(read) != num_nodes:
        raise _wrong_number(path, len(read), num_nodes)
    is_numbered = set(read) == {str(node) for node in range(num_nodes)}
    number = {node: int(node) if is_numbered else i for i, node in enumerate(read)}
    return _graph([(number[one], number[other]) for one, other in read.edges()], path, num_nodes)


def _graph(links: list[tuple[object, object]], path: Path, num_nodes: int) -> nx.Graph:
    import networkx as nx  # noqa: PLC0415

    graph = nx.Graph()
    graph.add_nodes_from(range(num_nodes))
    for link in links:
        for node in link:
            if not isinstance(node, int) or isinstance(node, bool) or not 0 <= node < num_nodes:
                raise ConfigError(
                    f"{path}: there is a link to node {node!r}, but the {num_nodes} nodes are called "
                    f"0 to {num_nodes - 1}: change the file or the number of nodes"
                )
        if link[0] == link[1]:
            raise ConfigError(f"{path}: node {link[0]} is its own neighbour; remove this link")
        graph.add_edge(*link)
    return graph


def _read_json(path: Path) -> object:
    try:
        return json.loads(_read_text(path))
    except ValueError as error:
        raise ConfigError(f"{path}: this is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be a graph") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"topology.path = {str(path)!r}: there is no such file; correct the path") from None
    except OSError as error:
        raise ConfigError(f"topology.path = {str(path)!r}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"topology.path = {str(path)!r}: is no text; save it as UTF-8") from None


def _wrong_number(path: Path, has: int, wanted: int) -> ConfigError:
    return ConfigError(
        f"{path}: is a graph of {has} nodes, and the scenario has {wanted}: write {has} nodes or take another graph"
    )
