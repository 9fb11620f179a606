"""The systems that there are, and what was done for or against each."""

from __future__ import annotations

from dataclasses import replace

from grapevine_lab.bench_simulator.ours import run_agents, run_ours
from grapevine_lab.bench_simulator.peers import Peer
from grapevine_lab.bench_simulator.systems import OurSystem, PeerSystem, System

SIMULATOR = OurSystem(arguments=run_ours, extra="lab")
AGENTS = OurSystem(arguments=run_agents, extra="train", needs_mosquitto=True, weighs=True)
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
FLOWER = PeerSystem(
    peer=Peer(
        distribution="flwr",
        version="1.42.0",
        extra="simulation",
        probe="import ray, torch, flwr.app, flwr.clientapp, flwr.serverapp.strategy, flwr.simulation",
        named=("flwr", "ray"),
    ),
    module="flower_run",
    environment={"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    folder_variables=("RAY_TMPDIR", "FLWR_HOME"),
)
GOSSIPY = PeerSystem(
    peer=Peer(
        distribution="gossipy-dfl",
        version="0.0.1",
        probe=(
            "import sys, types; sys.modules.setdefault('torchvision', types.ModuleType('torchvision')); "
            "import gossipy.simul, gossipy.data.handler"
        ),
        named=("gossipy-dfl",),
    ),
    module="gossipy_run",
    # One process that trains one small model after the other: a second thread costs more than it brings.
    environment={"OMP_NUM_THREADS": "1"},
)
PFL = PeerSystem(
    peer=Peer(
        distribution="pfl",
        version="0.6.0",
        extra="pytorch",
        probe="import torch, pfl.aggregate.simulate, pfl.algorithm.federated_averaging, pfl.model.pytorch",
        named=("pfl",),
    ),
    module="pfl_run",
    environment=_ONE_THREAD,
)
SUPERLINK = replace(
    FLOWER,
    module="flower_fleet",
    environment={
        **FLOWER.environment,
        **_ONE_THREAD,
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",  # seconds; 1 by itself
    },
    folder_variables=(),  # it puts everything into the folder that it runs in
)
P2PFL = PeerSystem(
    peer=Peer(
        distribution="p2pfl",
        version="0.4.4",
        extra="dp",
        also=("pyarrow<15", "huggingface-hub<1"),  # newer ones cannot be imported with what it pins
        probe="from p2pfl.settings import Settings; Settings.general.DISABLE_RAY = True; import torch, p2pfl.node",
        named=("p2pfl", "grpcio"),
    ),
    module="p2pfl_run",
    environment=_ONE_THREAD,
)
QUINKGL = PeerSystem(
    peer=Peer(
        distribution="quinkgl",
        version="0.3.6",
        probe="import torch, quinkgl.network.gossip_node",
        named=("quinkgl", "pyipv8"),
    ),
    module="quinkgl_run",
    environment=_ONE_THREAD,
    folder_variables=("HOME", "XDG_CONFIG_HOME"),
)
SDFLMQ = PeerSystem(
    peer=Peer(
        distribution="sdflmq",
        version="0.1.0.6",
        also=("matplotlib", "python-dateutil"),  # which it imports without requiring them
        probe="import torch, sdflmq",
        named=("sdflmq", "paho-mqtt"),
    ),
    module="sdflmq_run",
    environment=_ONE_THREAD,
    needs_mosquitto=True,
)

SIMULATED = (
    System(
        name="grapevine",
        set_up=(
            "grapevine: the device's own core in every node, over a broker in memory, with encoded messages; every "
            "node trains once a round and pushes to one random node of all, which averages. A round is over when the "
            "slowest node has finished it. Nothing is evaluated before the last one."
        ),
        prepare=SIMULATOR.prepare,
    ),
    System(
        name="flower",
        set_up=(
            "flower: FedAvg over all clients in every round; run_simulation() with Ray, one actor a core. "
            "For it: no evaluation, no dashboard, no telemetry; samples, model and optimiser are made once in each "
            "actor; no command-line service (flwr run) around it. As it comes: it looks for messages every 0.1 s."
        ),
        prepare=FLOWER.prepare,
    ),
    System(
        name="gossipy",
        set_up=(
            "gossipy: push to a random node of all, MERGE_UPDATE, no delay, no loss, no evaluation; on average every "
            "node trains once a round. For it: one thread (two are slower), no training before the first round, and "
            "torchvision is not imported. A subclass of its TorchModelHandler counts steps in place of epochs."
        ),
        prepare=GOSSIPY.prepare,
    ),
    System(
        name="pfl",
        set_up=(
            "pfl: FederatedAveraging over all users in every round, in SimulatedBackend, one process. For it: one "
            "thread, no evaluation but that before the first round, whose metrics are none."
        ),
        prepare=PFL.prepare,
    ),
)
REAL = (
    System(
        name="grapevine-agents",
        set_up=(
            "grapevine-agents: `grapevine agent run` in a process for each node, with a trainer beside it, over "
            "Mosquitto; signed messages. The same push as in the simulator. Rounds may follow one another at once "
            "(round_interval_s = 0.01). As it comes: each agent evaluates its model after every round. Engineer, "
            "reviewers and whoever measures are processes too, and count in no figure of a node."
        ),
        prepare=AGENTS.prepare,
        kind="real",
        node_mb=450,
        ports="one",
    ),
    System(
        name="flower-superlink",
        set_up=(
            "flower-superlink: FedAvg over all; flower-superlink and a flower-supernode for each node, `flwr run`. "
            "As it comes: each task of a client is a process that imports everything anew. For it: no TLS, no "
            "evaluation, one thread a client, and it looks for tasks every 0.05 s in place of every second."
        ),
        prepare=SUPERLINK.prepare,
        kind="real",
        node_mb=700,
        ports="one and each",
    ),
    System(
        name="p2pfl",
        set_up=(
            "p2pfl: FedAvg of all by gossip over gRPC, a process for each node, all of them neighbours. For it: a "
            "plain PyTorch loop in place of Lightning's trainer, no Ray, no evaluation, the settings of its own "
            "examples. As it comes: it votes in every round on who trains, and sends partial and whole averages."
        ),
        prepare=P2PFL.prepare,
        kind="real",
        node_mb=600,
        ports="each",
    ),
    System(
        name="quinkgl",
        set_up=(
            "quinkgl: gossip over IPv8 (UDP), a process for each node. For it: one receiver a round in place of up "
            "to three, addresses in place of public bootstrap servers. As it comes: a model goes in pieces of 768 "
            "bytes, each signed, one every 0.05 s. What it sends is counted by itself, in the function that sends."
        ),
        prepare=QUINKGL.prepare,
        kind="real",
        node_mb=600,
        ports="each",
    ),
    System(
        name="sdflmq",
        set_up=(
            "sdflmq: federated averaging over Mosquitto, with a coordinator and clients that aggregate in a tree, a "
            "process each; it needs four clients. As it comes: models are JSON text, and its loop waits up to a second "
            "for a message."
        ),
        prepare=SDFLMQ.prepare,
        kind="real",
        node_mb=450,
        ports="one",
    ),
)
# An environment for our simulator alone is made and weighed only where that is asked for.
WEIGHED_OURS = replace(SIMULATED[0], prepare=replace(SIMULATOR, weighs=True).prepare)
