"""Worker processes give the same bits as this one, share what is common, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.unit.lab.simulator.training.crowds import (
    SEED,
    asks,
    crowd,
    fine,
    looks,
    net,
    some_rounds,
)

from grapevine_lab.simulator.training.choose import make_crowd
from grapevine_lab.simulator.training.crews import WorkerCrew
from grapevine_lab.simulator.training.crowd import Crowd
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import Optimiser, TrainingPlan

PLAN = TrainingPlan(optimiser=Optimiser(name="adam", learning_rate=0.01), batch_size=8)
NUM_NODES = 7
WORKER = "grapevine_lab.simulator.training.worker"


def _workers(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if WORKER in child.cmdline()]


def _workers_of(trainer: Crowd) -> list[psutil.Process]:
    crew = trainer._crew
    assert isinstance(crew, WorkerCrew)
    return [psutil.Process(worker.process.pid) for worker in crew._workers]


def _have_ended(workers: list[psutil.Process]) -> bool:
    return not any(worker.is_running() for worker in workers)  # not even as zombies


def _crowd(name: str, how: str, num_workers: int) -> Crowd:
    samples = crowd(net(name).shape, NUM_NODES, num_test=3000)
    return make_crowd(net(name).program, PLAN, samples, seed=SEED, num_workers=num_workers, how=how)


@pytest.fixture(scope="module", params=[("cnn", "plain"), ("cnn", "stacked"), ("dropping", "stacked")])
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def trainer(case: tuple[str, str]) -> Iterator[Crowd]:
    made = _crowd(*case, num_workers=2)
    yield made
    workers = _workers_of(made)
    made.close()
    made.close()
    assert _have_ended(workers)


def test_results_do_not_depend_on_the_number_of_workers(case: tuple[str, str], trainer: Crowd) -> None:
    here, state = _crowd(*case, num_workers=1), trainer.state()
    model = net(case[0]).model
    models, expected = some_rounds(trainer, model, NUM_NODES), some_rounds(here, model, NUM_NODES)
    for node in range(NUM_NODES):
        np.testing.assert_array_equal(models[node][0], expected[node][0])
        np.testing.assert_array_equal(models[node][1], expected[node][1])
    assert trainer.evaluate(looks(models)) == here.evaluate(looks(models))
    trainer.restore(here.state())  # a state of one process is a state of another
    again = trainer.train(asks(models, 3))
    for one, other in zip(again, here.train(asks(models, 3)), strict=True):
        np.testing.assert_array_equal(fine(one).parameters, fine(other).parameters)
    trainer.restore(state)
    fresh = _crowd(*case, num_workers=1)
    for one, other in zip(trainer.train(asks(models, 3)), fresh.train(asks(models, 3)), strict=True):
        np.testing.assert_array_equal(fine(one).parameters, fine(other).parameters)


def test_a_test_set_of_all_nodes_is_shared_once(trainer: Crowd) -> None:
    assert len(trainer._commons.x_test) == 1


def test_an_interrupt_from_the_terminal_is_not_the_workers(case: tuple[str, str], trainer: Crowd) -> None:
    model = net(case[0]).model
    trainer.train(asks({0: model}, 1))  # so that they have begun
    for worker in _workers_of(trainer):
        worker.send_signal(signal.SIGINT)
    assert len(trainer.train(asks({0: model, 1: model}, 1))) == 2


def test_a_worker_that_dies_is_told_and_ends_the_trainer() -> None:
    trainer = _crowd("mlp", "stacked", num_workers=2)
    model = net("mlp").model
    trainer.train(asks({0: model}, 1))
    workers = _workers_of(trainer)
    workers[0].kill()
    for_both = [*asks(dict.fromkeys(range(3), model), 1), *asks(dict.fromkeys(range(3, NUM_NODES), model), 2)]
    with pytest.raises(GrapevineError, match="was killed by signal 9"):
        trainer.train(for_both)
    assert _have_ended(workers)
    with pytest.raises(GrapevineError, match="have ended"):
        trainer.train(asks({0: model}, 1))
    trainer.close()


def test_a_trainer_that_is_forgotten_leaves_no_process_and_no_descriptor() -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    trainer = _crowd("mlp", "stacked", num_workers=2)
    workers = _workers_of(trainer)
    assert len(workers) == 2
    del trainer
    assert _have_ended(workers)
    assert len(list(descriptors.iterdir())) == before


OWNER = """
    import signal
    import sys
    import numpy as np
    from grapevine_agent.data.preparing import Samples
    from grapevine_lab.simulator.training import TrainingRequest, make_trainer
    from grapevine_proto.manifest import TrainingPlan
    from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    graph = Graph(nodes=(Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), None)),), output=2)
    program = Program(
        inputs=(InputSpec(name="x", shape=(2,)),), parameters=(TensorSpec(name="w", shape=(2, 2)),),
        train=graph, eval=graph,
    )
    x, y = np.ones((8, 2), np.float32), np.zeros(8, np.int64)
    samples = [Samples(x=x, y=y, x_test=x, y_test=y)] * 2
    trainer = make_trainer(program, TrainingPlan(), samples, seed=0, num_workers=2, how="plain")
    ask = lambda steps: [
        TrainingRequest(node=k, parameters=np.zeros(4, np.float32), buffers=np.empty(0, np.float32), num_steps=steps)
        for k in range(2)
    ]
    trainer.train(ask(1))
    print("ready", flush=True)
    trainer.train(ask(int(sys.argv[1])))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_in_the_middle_of_a_job_when_their_owner_does(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(textwrap.dedent(OWNER))
    command = [sys.executable, str(script), str(2_000_000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        workers = _workers(owner.pid)
        assert len(workers) == 2
        owner.send_signal(how)
        owner.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_protocol_only_runs_do_not_import_pytorch() -> None:
    script = "import sys, grapevine_lab.simulator.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_was_begun_beside_other_work_has_the_same_result(case: tuple[str, str], trainer: Crowd) -> None:
    here, state = _crowd(*case, num_workers=1), trainer.state()
    model = net(case[0]).model
    trainer.restore(here.state())
    expected = here.train(asks(dict.fromkeys(range(NUM_NODES), model), 3))
    coming = [trainer.begin(asks({node: model}, 3))[0] for node in range(NUM_NODES)]
    assert trainer.evaluate(looks({0: model})) == here.evaluate(looks({0: model}))  # the same workers, meanwhile
    for one, other in zip(reversed(expected), map(trainer.result, reversed(coming)), strict=True):
        np.testing.assert_array_equal(fine(one).parameters, fine(other).parameters)
    trainer.restore(state)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_node_whose_result_nobody_asked_for_goes_on_from_it(num_workers: int) -> None:
    model = net("mlp").model
    one, other = _crowd("mlp", "stacked", num_workers), _crowd("mlp", "stacked", num_workers)
    one.begin(asks({0: model, 1: model}, 40))
    again = one.result(one.begin(asks({0: model}, 3))[0])
    other.train(asks({0: model, 1: model}, 40))
    np.testing.assert_array_equal(fine(again).parameters, fine(other.train(asks({0: model}, 3))[0]).parameters)
    one.begin(asks({1: model}, 5))
    other.train(asks({1: model}, 5))
    assert one.state()["num_steps"] == other.state()["num_steps"] == [43, 45, *[0] * (NUM_NODES - 2)]
    one.close()
    other.close()


def test_a_worker_that_dies_is_told_to_whoever_begins_more() -> None:
    trainer = _crowd("mlp", "stacked", num_workers=2)
    model = net("mlp").model
    trainer.train(asks(dict.fromkeys(range(2), model), 1))
    for worker in _workers_of(trainer):
        worker.kill()
    with pytest.raises(GrapevineError, match="was killed by signal 9"):  # noqa: PT012 - whichever notices first
        trainer.begin(asks({0: model}, 1))
        trainer.settle()
    with pytest.raises(GrapevineError, match="have ended"):
        trainer.settle()
