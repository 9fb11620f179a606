"""What the comparison of simulators does around the systems. How fast they are, `make bench-simulator` measures."""

import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from rich.console import Console

from grapevine_lab.bench_simulator.ours import write_scenario, write_task
from grapevine_lab.bench_simulator.peer_code import learner
from grapevine_lab.bench_simulator.peers import Peer, PeerMissingError, ensure_installed, torch_requirement
from grapevine_lab.bench_simulator.processes import ProcessTree
from grapevine_lab.bench_simulator.runs import Command, Patience, Run, RunFailedError, Story, run
from grapevine_lab.bench_simulator.suite import Contest, Report, measure
from grapevine_lab.bench_simulator.systems import Prepared, System
from grapevine_lab.bench_simulator.table import as_json, print_table, row
from grapevine_lab.bench_simulator.workload import MODELS, Model, Workload, samples_for, workload_of, write_workload

TELL = "import json, os, sys, time\ndef tell(**event): print(json.dumps(event), flush=True)\n"
PATIENCE_S = 20.0


def code(text: str) -> list[str]:
    return [sys.executable, "-c", TELL + textwrap.dedent(text)]


def rounds(ends_s: tuple[float, ...], started_s: float = 0.0) -> Run:
    return Run(started_s=started_s, ready_s=None, round_ends_s=ends_s)


def run_code(
    text: str, log: Path, *, num_rounds: int = 3, weigh: bool = False, patience: Patience | None = None
) -> Run:
    command = Command(arguments=code(text))
    return run(command, num_rounds=num_rounds, num_cores=1, log=log, weigh=weigh, patience=patience)


def system(name: str, text: str, *, missing: str = "") -> System:
    def prepare(_environments: Path, _say: object) -> Prepared:
        if missing:
            raise PeerMissingError(missing)
        return Prepared(
            versions={name: "1"}, command=lambda _workload, _folder, plan: Command(arguments=[*code(text), str(plan)])
        )

    return System(name=name, set_up=f"how {name} was set up", prepare=prepare)


# --- what is measured ------------------------------------------------------------------------------


def test_a_round_is_the_median_between_ends_so_the_first_one_does_not_count() -> None:
    found = rounds((9.0, 10.0, 10.5, 19.0, 20.0))
    assert found.rounds_s == [1.0, 0.5, 8.5, 1.0]
    assert found.round_s == 1.0


def test_start_up_is_all_that_passed_before_the_first_round_had_ended_but_for_one_round() -> None:
    assert rounds((15.0, 16.0, 17.0), started_s=10.0).start_up_s == 4.0
    assert rounds((10.5, 11.5, 12.5), started_s=10.0).start_up_s == 0.0  # the first was quicker than the others


def test_output_that_is_no_event_is_passed_over_and_a_round_left_out_is_not() -> None:
    story = Story()
    for line in ("Simulating... 100%", "[1, 2]", '{"event": "round"}', '{"event": "ready", "t": 1}', "3"):
        story.hear(line)
    story.hear('{"event": "round", "round": 1, "t": 2.5}')
    assert (story.ready_s, story.round_ends_s) == (1, [2.5])
    with pytest.raises(RunFailedError, match="round 3 after 1 rounds"):
        story.hear('{"event": "round", "round": 3, "t": 4}')


# --- a system is a process --------------------------------------------------------------------------


def test_a_process_is_heard_to_its_end(tmp_path: Path) -> None:
    found = run_code(
        """
        tell(event="ready", t=1.0)
        for number in (1, 2, 3):
            tell(event="round", round=number, t=float(number * number))
        tell(event="learned", accuracy=0.5)
        """,
        tmp_path / "log",
    )
    assert (found.ready_s, found.round_ends_s, found.accuracy) == (1.0, (1.0, 4.0, 9.0), 0.5)
    assert found.peak_bytes is None  # it was timed


def test_memory_is_that_of_the_process_and_of_all_that_it_started(tmp_path: Path) -> None:
    grown = 40_000_000
    text = f"""
        import subprocess
        kid = [sys.executable, "-c", "import time; x = bytearray({grown}); x[::4096] = x[::4096]; time.sleep(60)"]
        kids = [subprocess.Popen(kid) for _ in range(2)]
        until = time.monotonic() + {PATIENCE_S}
        grown = lambda kid: int(open(f"/proc/{{kid.pid}}/statm").read().split()[1]) * 4096 > {grown}
        while not all(grown(kid) for kid in kids) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(1)
        for number in (1, 2, 3):
            tell(event="round", round=number, t=float(number))
        for kid in kids:
            kid.kill(), kid.wait()
        """
    if sys.platform != "linux":
        pytest.skip("the child looks at /proc")
    found = run_code(text, tmp_path / "log", weigh=True)
    assert found.peak_bytes is not None
    assert 2 * grown < found.peak_bytes < 4 * grown


def test_a_process_that_fails_says_why_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"status 1 after 1 of 3 rounds(.|\n)*out of paper"):
        run_code('tell(event="round", round=1, t=1.0)\nsys.exit("out of paper")', tmp_path / "log")


def test_a_process_that_leaves_early_has_failed_though_it_says_all_is_well(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="status 0 after 0 of 3 rounds"):
        run_code("pass", tmp_path / "log")


def test_out_of_patience_the_rounds_that_there_are_will_do(tmp_path: Path) -> None:
    text = """
        for number in (1, 2, 3, 4):
            tell(event="round", round=number, t=float(number))
        time.sleep(60)
        """
    found = run_code(text, tmp_path / "log", num_rounds=100, patience=Patience(rounds_s=0.0))
    assert found.round_ends_s == (1.0, 2.0, 3.0, 4.0)


def test_a_process_that_never_gets_to_its_rounds_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="0 rounds after 0 s"):
        run_code("time.sleep(60)", tmp_path / "log", patience=Patience(rounds_s=0.0, whole_s=0.0))


def test_nothing_that_a_system_started_outlives_it() -> None:
    kid = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    text = f"""
        import subprocess
        kid = subprocess.Popen([sys.executable, "-c", {kid!r}], stdout=subprocess.PIPE, start_new_session=True)
        kid.stdout.readline()
        print(kid.pid, flush=True)
        time.sleep(60)
        """
    with subprocess.Popen(code(text), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kid_pid = int(process.stdout.readline())
        tree = ProcessTree(process.pid)
        tree.end()
        process.wait()
    assert not psutil.pid_exists(kid_pid) or psutil.Process(kid_pid).status() == psutil.STATUS_ZOMBIE


# --- the work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_nodes", "num_samples"), [(10, 600), (100, 100), (300, 100)])
def test_ten_nodes_have_600_samples_each_and_a_hundred_have_100(num_nodes: int, num_samples: int) -> None:
    assert workload_of(num_nodes).num_samples == num_samples


def test_without_mnist_the_work_is_of_the_same_shape_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)
    workload = Workload(num_nodes=3, num_samples=40)
    first, second = samples_for(workload), samples_for(workload)
    assert first.x.shape == (120, 28, 28)
    assert (first.x.dtype.name, first.y.dtype.name) == ("float32", "int64")
    assert np.array_equal(first.x, second.x)
    assert set(first.y.tolist()) <= set(range(10))


@pytest.mark.skipif("GRAPEVINE_DATA" not in os.environ, reason="needs MNIST")
def test_with_mnist_images_are_from_0_to_1_and_no_class_is_missing() -> None:
    samples = samples_for(Workload(num_nodes=10, num_samples=60))
    assert samples.origin == "MNIST"
    assert (samples.x.min(), samples.x.max()) == (0.0, 1.0)
    assert set(samples.y.tolist()) == set(range(10))


def test_a_peer_reads_back_the_plan_and_each_node_its_own_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)
    path, written = write_workload(tmp_path, Workload(num_nodes=3, num_samples=40))
    plan = learner.read_plan(str(path))
    samples = learner.read_samples(plan.samples)
    shares = [samples.y[learner.rows_of(node, plan)].numpy() for node in range(3)]
    assert [len(share) for share in shares] == [40, 40, 40]
    assert np.array_equal(np.concatenate(shares), written.y)


@pytest.mark.parametrize(("model", "num_parameters"), [("mlp", 50_890), ("cnn", 55_338)])
def test_all_train_the_model_that_the_papers_describe(model: Model, num_parameters: int) -> None:
    plan = learner.Plan(
        num_nodes=1, model=model, num_samples=1, num_rounds=1, num_steps=1, batch_size=1, learning_rate=0.1, seed=0,
        num_cores=1, samples="",
    )  # fmt: skip
    first, second = learner.new_model(plan), learner.new_model(plan)
    assert sum(parameter.numel() for parameter in first.parameters()) == num_parameters
    assert first(torch.zeros(2, 28, 28)).shape == (2, 10)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_epoch_shows_each_sample_once_and_every_batch_is_full() -> None:
    taken = list(learner.batches(100, 32, 7))
    assert [len(batch) for batch in taken] == [32] * 7
    first, second = torch.cat(taken[:3]), torch.cat(taken[3:6])
    assert len(set(first.tolist())) == len(set(second.tolist())) == 96
    assert not torch.equal(first, second)
    assert [len(batch) for batch in learner.batches(5, 32, 2)] == [5, 5]


def test_the_way_to_the_harness_is_nobody_elses() -> None:
    text = """
        from grapevine_lab.bench_simulator.peer_code.learner import Harness
        harness = Harness()
        print("a progress bar")
        os.system("echo and a child of it")
        harness.round_ended(1)
        """
    ran = subprocess.run(code(text), capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in ran.stdout.splitlines()] == ["round"]
    assert "a progress bar" in ran.stderr
    assert "and a child of it" in ran.stderr


def test_what_runs_inside_the_peers_environments_knows_nothing_of_grapevine() -> None:
    folder = Path(learner.__file__).parent
    modules = sorted(path.name for path in folder.glob("*.py"))
    assert "flower_run.py" in modules
    for module in modules:
        assert "grapevine" not in (folder / module).read_text(encoding="utf-8")


# --- ours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_our_scenario_is_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    experiment = pytest.importorskip("grapevine_lab.simulator.experiment")
    scenarios = pytest.importorskip("grapevine_lab.simulator.scenario")
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)
    workload = Workload(num_nodes=3, num_samples=40, num_rounds=5, model=model)
    plan, samples = write_workload(tmp_path, workload)
    write_task(tmp_path / "task", workload)

    path = write_scenario(tmp_path / "benchmark.toml", workload, plan.with_name("samples.npz"))
    scenario = scenarios.read_scenario(path)
    prepared = experiment.prepare(scenario)

    training = prepared.built.draft.training
    assert (scenario.rounds, scenario.nodes.num, scenario.partition.samples_per_node) == (5, 3, 40)
    assert (training.steps_per_round, training.batch_size) == (10, 32)
    assert training.optimiser.learning_rate == pytest.approx(0.1)
    assert len(prepared.dataset.y) == len(samples.y)  # none was held out
    assert scenario.measure.every_rounds == scenario.rounds


# --- the peers' environments ------------------------------------------------------------------------


def test_pytorch_is_the_one_that_the_constraints_name(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torchvision==0.1\ntorch==9.8.7\n")
    assert torch_requirement(constraints) == "torch==9.8.7"
    assert torch_requirement(tmp_path / "none") == f"torch=={torch.__version__.partition('+')[0]}"


def test_a_peer_that_cannot_be_installed_says_why_and_leaves_no_half_environment_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    peer = Peer(distribution="no-such-thing", version="1.0", probe="pass", named=())
    with pytest.raises(PeerMissingError, match=r"no-such-thing==1\.0 could not be installed: ERROR"):
        ensure_installed(peer, tmp_path, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["no-such-thing-1.0"]
    assert not list(tmp_path.glob("*/installed.json"))


# --- the whole --------------------------------------------------------------------------------------

WELL = """
    plan = json.load(open(sys.argv[1]))
    start = time.monotonic()
    time.sleep(0.5)  # its memory is looked at now and then
    for number in range(1, plan["num_rounds"] + 1):
        tell(event="round", round=number, t=start + number)
    tell(event="learned", accuracy=0.75)
    """


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)
    systems = [
        system("well", WELL),
        system("ill", 'sys.exit("it hurts")'),
        system("away", "", missing="there is no network"),
    ]
    workloads = [Workload(num_nodes=2, num_samples=10, num_rounds=3)]
    return measure(systems, workloads, num_repeats=2, environments=tmp_path, say=lambda _: None)


def test_a_system_that_is_missing_or_fails_does_not_keep_the_others_from_their_figures(report: Report) -> None:
    well, ill, away = report.contests
    assert [found.round_s for found in well.runs] == pytest.approx([1.0, 1.0])
    assert well.weighed is not None
    assert (well.weighed.peak_bytes or 0) > 1_000_000
    assert "it hurts" in ill.failed
    assert (away.skipped, away.failed) == ("there is no network", "")


def test_the_table_gives_figures_reasons_and_how_each_was_set_up(report: Report) -> None:
    stream = io.StringIO()
    print_table(report, Console(file=stream, highlight=False))
    printed = stream.getvalue()
    for text in ("1.00 … 1.00", "0.750", "3 x 2", "it hurts", "away was skipped: there is no network", "well: well 1"):
        assert text in printed
    for name in ("well", "ill", "away"):
        assert f"how {name} was set up" in printed


def test_a_system_without_figures_has_a_word_in_their_place() -> None:
    workload = workload_of(10)
    assert row(Contest(system="a", workload=workload, failed="why")) == ("10", "a", "failed")
    assert row(Contest(system="a", workload=workload, skipped="why")) == ("10", "a", "skipped")


def test_json_keeps_every_round_of_every_run(report: Report) -> None:
    well, ill, away = json.loads(json.dumps(as_json(report)))["results"]
    assert [each["rounds_s"] for each in well["runs"]] == [pytest.approx([1.0, 1.0])] * 2
    assert well["workload"]["num_nodes"] == 2
    assert well["peak_bytes"] > 1_000_000
    assert "it hurts" in ill["failed"]
    assert away["skipped"] == "there is no network"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "flour"], "'flour' is not known; did you mean flower?"),
        (["--model", "rnn"], "no model 'rnn'"),
        (["--nodes", "1"], "'--nodes'"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_installed(arguments: list[str], complaint: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "grapevine_lab.bench_simulator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert ran.returncode == 2
    assert complaint in ran.stderr
