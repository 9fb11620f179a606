"""How a server merges: one file a strategy, named as in its paper, and one table.

Unlike the members' strategies these have state, so each is a class; `interface` says what it is given
and gives back. Nothing that training depends on is kept here: members go on without their server,
and a server that was restarted goes on from its saved model and what it hears.
"""

from __future__ import annotations

from grapevine_agent.merge.server.cfl import Cfl
from grapevine_agent.merge.server.doubly_weighted import DoublyWeighted
from grapevine_agent.merge.server.fedasync import FedAsync
from grapevine_agent.merge.server.fedavg import FedAvg
from grapevine_agent.merge.server.fedbuff import FedBuff
from grapevine_agent.merge.server.flic import Flic
from grapevine_agent.merge.server.interface import (
    MAX_MEMBERS,
    ClusterModel,
    ServerContext,
    ServerStart,
    ServerState,
    ServerStrategy,
    ServerStrategyEntry,
    ServerUpdate,
)
from grapevine_agent.merge.voices import AGE_CONSTANTS, Constant

_MAX_CLUSTERS = Constant(default=8, low=1, high=64, meaning="clusters that there are at most")

SERVER_STRATEGIES: dict[str, ServerStrategyEntry] = {
    "doubly-weighted": ServerStrategyEntry(
        make=DoublyWeighted,
        source="Grapevine; the DecentraLearn poster",
        memory="6p to 15p",
        num_models=16,
        constants=AGE_CONSTANTS,
    ),
    "fedavg": ServerStrategyEntry(
        make=FedAvg,
        source="McMahan et al. 2017, algorithm 1; Chisme equation 1",
        memory="2p",
        num_models=2,
        in_rounds=True,
    ),
    "fedasync": ServerStrategyEntry(
        make=FedAsync,
        source="Xie et al. 2019, algorithm 1, polynomial staleness",
        memory="p",
        num_models=3,
        constants={
            "alpha": Constant(default=0.6, low=0, high=1, meaning="share of an update that is not stale"),
            "a": Constant(default=0.5, low=0, high=4, meaning="how fast the share falls: α(1 + s)^−a"),
        },
    ),
    "fedbuff": ServerStrategyEntry(
        make=FedBuff,
        source="Nguyen et al. 2022, algorithm 1, staleness scaling 1/√(1 + s)",
        memory="9p",
        num_models=11,
        constants={
            "buffer": Constant(default=10, low=1, high=1024, meaning="updates that make a step, K"),
            "eta": Constant(default=1, low=0, high=10, meaning="the server's learning rate η"),
        },
        needs_base=True,
    ),
    "cfl": ServerStrategyEntry(
        make=Cfl,
        source="Sattler et al. 2020: criteria for ε₁ and ε₂, optimal bipartition, γ",
        memory="|P|p + 7p a cluster",
        num_models=9,
        constants={
            "eps1": Constant(default=0.4, low=0, high=1e6, meaning="a model has settled if its step is shorter, ε₁"),
            "eps2": Constant(default=1.6, low=0, high=1e6, meaning="a member has not if its change is longer, ε₂"),
            "gamma": Constant(default=0, low=0, high=1, meaning="how noisy updates may be, γ; 0: do not ask"),
            "settle_rounds": Constant(default=20, low=0, high=1e6, meaning="rounds before a cluster is divided"),
            "min_members": Constant(default=3, low=2, high=256, meaning="members heard that a division takes"),
            "max_clusters": _MAX_CLUSTERS,
        },
        needs_base=True,
        clusters=True,
        in_rounds=True,
    ),
    "flic": ServerStrategyEntry(
        make=Flic,
        source="Espinoza Castellon et al. 2022, with its authors' code",
        memory="|P|p + 7p a cluster",
        num_models=9,
        constants={
            "cluster_round": Constant(default=50, low=0, high=1e6, meaning="the round of the division: T/2"),
            "gather_rounds": Constant(default=5, low=0, high=1e6, meaning="rounds of gathering after a restart"),
            "self_similarity": Constant(default=2, low=0, high=2, meaning="loops: 2 as coded, 0 for coarser clusters"),
            "max_clusters": _MAX_CLUSTERS,
        },
        needs_base=True,
        clusters=True,
        in_rounds=True,
    ),
}

__all__ = [
    "MAX_MEMBERS",
    "SERVER_STRATEGIES",
    "ClusterModel",
    "ServerContext",
    "ServerStart",
    "ServerState",
    "ServerStrategy",
    "ServerStrategyEntry",
    "ServerUpdate",
]
