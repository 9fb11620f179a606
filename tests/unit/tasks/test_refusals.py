"""What cannot be built is refused with the line of model.py that must change, and with the remedy that applies."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import TaskError
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask, load_built

TASK = """
[task]
name = "{name}"
[data]
kind = "points"
num_classes = 3
minimum_samples = {minimum}
[data.features]
name = "x"
dtype = "float32"
shape = [4]
[data.target]
name = "y"
dtype = "int64"
shape = []
[training]
batch_size = {batch}
"""
HEAD = """import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
{more}

    def forward(self, x):
        {forward}


def build():
    return Net()
"""


def _build(
    folder: Path, model: str, *, name: str = "probe", batch: int = 16, minimum: int = 2, example: str = ""
) -> BuiltTask:
    (folder / "task.toml").write_text(TASK.format(name=name, batch=batch, minimum=minimum), encoding="utf-8")
    (folder / "model.py").write_text(model + example, encoding="utf-8")
    return build_task(folder, check_merging=check_merge_plan)


SEQUENTIAL = """from torch import nn


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
"""
FORWARD = 13  # the line of a forward() of one line
REFUSED = {
    "squeeze": ("return self.b(self.a(x)).unsqueeze(-1).squeeze()", r"name the dimension, such as squeeze\(-1\)"),
    "cdist": ("return torch.cdist(self.a(x), self.b.weight)", r"square\(\).sum\(-1\)"),
    "item": ("return self.b(self.a(x)) * x.mean().item()", r"keep numbers as tensors|Keep numbers as tensors"),
    "numpy": ("return self.b(self.a(x)) * float(np.mean(x.detach().numpy()))", "what NumPy does"),
    "a dict": ('return self.b(self.a(x["points"]))', r"takes one tensor \[batch, …\].*a, b = x"),
    "a tuple": ("a, b = x; return self.b(self.a(a))", r"takes one tensor \[batch, …\].*a, b = x"),
    "a fixed batch": ("return self.b(self.a(x)).reshape(9)", r"x.shape\[0\] or -1"),
    "packed": (
        "return self.b(nn.utils.rnn.pack_padded_sequence(x, torch.full((x.shape[0],), 4), batch_first=True)[0])",
        "padded batch",
    ),
    "sort": ("return self.b(self.a(x).sort(1)[0])", r"max\(dim\)"),
    "topk": ("return self.b(self.a(x)).topk(3)[0]", r"max\(dim\)"),
    "several outputs": ("return self.b(self.a(x)), x", "return one tensor"),
    "a parameter that changes": (
        "self.a.weight.data.clamp_(-1, 1); return self.b(self.a(x))",
        r"changes 'a.weight' .* weight.clamp\(-1, 1\)",
    ),
    "a branch": ("return self.b(self.a(x)) if x.sum() > 0 else self.b(self.a(-x))", "torch.where"),
    "divided by the batch": ("return self.b(self.a(x)) / x.size(0)", r"the number of samples .* is x.mean\(0\)"),
    "times the batch": ("return self.b(self.a(x)) * (2 * x.shape[0])", r"the number of samples .* is x.mean\(0\)"),
    "minus a part of the batch": ("return self.b(self.a(x)) - 1 / len(x.T[0])", r"x.shape\[0\] or -1"),
    "times a len()": ("return self.b(self.a(x)) * len(x)", r"len\(\) makes .* is x.mean\(0\)"),
    "squeeze(0)": ("return self.b(self.a(x).squeeze(0))", r"such as squeeze\(1\)"),
    "squeeze(-2)": ("return self.b(self.a(x).squeeze(-2))", r"such as squeeze\(1\)"),
    "numbers of another size": (
        "return x @ torch.ones(5, 3)",
        r"forward\(\) fails with what data.features gives, float32\[batch, 4\]: .*3x4 and 5x3.* task.toml",
    ),
    "nothing to learn": ("return self.b(self.a(x)).detach()", "nothing can be learnt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_line_of_forward_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    forward, remedy = REFUSED[name]
    with pytest.raises(TaskError, match=rf"^model.py, line {FORWARD}: .*({remedy})"):
        _build(tmp_path, HEAD.format(more="", forward=forward))
    assert not (tmp_path / "build").exists()


LAYERS = {
    "a name of other letters": (
        'self.parts = nn.ModuleDict({"Größe": nn.Linear(4, 3)})',
        'self.parts["Größe"](x)',
        "letters a to z",
    ),
    "a name with a space": (
        'self.parts = nn.ModuleDict({"a b": nn.Linear(4, 3)})',
        'self.parts["a b"](x)',
        "letters a to z",
    ),
    "a name that is too long": (
        'self.parts = nn.ModuleDict({"n" * 250: nn.Linear(4, 3)})',
        'self.parts["n" * 250](x)',
        "200 characters at most",
    ),
    "the name of a device": (
        "self.con = nn.Parameter(torch.ones(3))",
        "self.b(self.a(x)) * self.con",
        "letters a to z",
    ),
    "a buffer of other letters": (
        'self.register_buffer("größe", torch.zeros(()))',
        "self.b(self.a(x)) * self.größe.add_(1)",
        "letters a to z",
    ),
    "no elements": (
        "self.none = nn.Parameter(torch.zeros(0, 3))",
        "self.b(self.a(x)) + self.none.sum()",
        "leave it out",
    ),
    "nine dimensions": (
        "self.deep = nn.Parameter(torch.ones(1, 1, 1, 1, 1, 1, 1, 1, 3))",
        "self.b(self.a(x)) * self.deep.flatten()",
        "make it flatter",
    ),
    "an average over all batches": (
        "self.norm = nn.BatchNorm1d(8, momentum=None)",
        "self.b(self.norm(self.a(x)))",
        "momentum=0.1",
    ),
    "a lazy layer": ("self.late = nn.LazyLinear(3)", "self.late(x)", "call the module once"),
    "double precision": (
        "self.fine = nn.Parameter(torch.ones(3).double())",
        "self.b(self.a(x)) * self.fine",
        "use float32",
    ),
    "a wrong size": (
        "self.c = nn.Linear(5, 3)",
        "self.c(x)",
        r"'c' \(Linear with in_features = 5\) cannot take float32\[batch, 4\]: .* gives the model float32\[batch, 4\]",
    ),
    "a wrong size further on": (
        "self.c = nn.BatchNorm1d(7)",
        "self.b(self.c(self.a(x)))",
        r"'c' \(BatchNorm1d with num_features = 7\) cannot take float32\[batch, 8\]: .* gives .*\[batch, 4\]",
    ),
    "a script": ("self.c = torch.jit.script(nn.Linear(4, 3))", "self.c(x)", "made by torch.jit.* give the nn.Module"),
    "a compiled layer": ("self.c = torch.compile(nn.Linear(4, 3))", "self.c(x)", "made by torch.compile"),
    "hooks": (
        "self.a.weight.register_hook(lambda g: 2 * g); self.k = nn.Linear(1, 1)",
        "self.b(self.a(x))",
        "has a hook on its gradient",
    ),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_the_line_that_makes_a_layer_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    made, used, remedy = LAYERS[name]
    line = 9 if name == "hooks" else 10
    with pytest.raises(TaskError, match=rf"^model.py, line {line}: .*({remedy})"):
        _build(tmp_path, HEAD.format(more=f"        {made}", forward=f"return {used}"))
    assert not (tmp_path / "build").exists()


BUILT = {
    "torch.jit.script(nn.Linear(4, 3))": "what build.* was made by torch.jit",
    "torch.jit.trace(nn.Linear(4, 3), torch.zeros(2, 4))": "was made by torch.jit",
    "torch.compile(nn.Linear(4, 3))": "was made by torch.compile",
    "nn.DataParallel(nn.Linear(4, 3))": "give its .module",
    "nn.LazyLinear(3)": "has no sizes yet",
    "nn.Linear(5, 3)": r"the model \(Linear with in_features = 5\) cannot take float32\[batch, 4\]",
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("made", BUILT)
def test_what_build_returns_is_refused_by_the_line_of_build(tmp_path: Path, made: str) -> None:
    with pytest.raises(TaskError, match=rf"^model.py, line 5: .*({BUILT[made]})"):
        _build(tmp_path, f"import torch\nfrom torch import nn\n\n\ndef build():\n    return {made}\n")


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        ("self.b(self.a(x))", r"forward\(\) returns no tensor: let it end with return"),
        ('return {"y": self.b(self.a(x))}', r"forward\(\) returns a dict; return one tensor"),
        ("return (self.b(self.a(x)),)", r"forward\(\) returns a tuple; return one tensor"),
    ],
)
def test_a_forward_that_returns_no_tensor_is_refused_with_its_line(tmp_path: Path, forward: str, told: str) -> None:
    with pytest.raises(TaskError, match=rf"^model.py, line 12: {told}"):
        _build(tmp_path, HEAD.format(more="", forward=forward))


def test_a_file_that_python_cannot_read_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^model.py, line 4: SyntaxError: .*correct 'def build\(:'"):
        _build(tmp_path, "from torch import nn\n\n\ndef build(:\n    return 1\n")


def test_pytorch_says_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskError):
        _build(tmp_path, HEAD.format(more="        self.c = nn.Linear(5, 3)", forward="return self.c(x)"))
    assert capfd.readouterr() == ("", "")


def test_an_empty_tensor_that_is_read_is_refused_where_it_is_read(tmp_path: Path) -> None:
    model = HEAD.format(
        more='        self.register_buffer("none", torch.zeros(0, 3))',
        forward="return torch.cat([self.b(self.a(x)), self.none])",
    )
    with pytest.raises(TaskError, match=r"^model.py, line 13: the tensor 'none' has no elements"):
        _build(tmp_path, model)


SEVERAL = HEAD.replace("forward(self, x)", "forward(self, x, lengths)")


def test_two_inputs_are_refused_with_how_one_is_taken_apart(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"^model.py, line 12: forward\(x, lengths\) takes 2 inputs; .*a, b = x\[:, :4\]"
    ):
        _build(tmp_path, SEVERAL.format(more="", forward="return self.b(self.a(x))"))
    with pytest.raises(TaskError, match=r"^model.py, line 12: forward\(\) takes no inputs"):
        _build(tmp_path, HEAD.replace("(self, x)", "(self)").format(more="", forward="return self.b.bias"))
    optional = HEAD.replace("forward(self, x)", "forward(self, x, lengths=None, *, more=1)")
    _build(tmp_path, optional.format(more="", forward="return self.b(self.a(x))"))


def test_what_the_checks_find_has_the_line_of_the_model(tmp_path: Path) -> None:
    more, forward = "        self.norm = nn.BatchNorm1d(8)", "return self.b(self.norm(self.a(x)))"
    with pytest.raises(TaskError, match=rf"^model.py, line {FORWARD}: train graph, value .* set training.batch_size"):
        _build(tmp_path, HEAD.format(more=more, forward=forward), batch=1)
    with pytest.raises(TaskError, match=r"^model.py, line 5: train graph, value .*BATCH_NORM_TRAIN"):
        _build(tmp_path, SEQUENTIAL, batch=1)


def test_a_name_that_is_fine_is_built_and_read_back(tmp_path: Path) -> None:
    model = HEAD.format(
        more='        self.parts = nn.ModuleDict({"a-1_B": nn.Linear(4, 3)})', forward='return self.parts["a-1_B"](x)'
    )
    assert _build(tmp_path, model) == load_built(tmp_path)


@pytest.mark.parametrize("name", ["", "two\\nlines", "n" * 300])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaskError, match="name"):
        _build(tmp_path, HEAD.format(more="", forward="return self.b(self.a(x))"), name=name)
    assert not (tmp_path / "build").exists()


def test_a_parametrisation_that_cannot_be_built_is_called_by_its_weight(tmp_path: Path) -> None:
    more = "        nn.utils.parametrizations.orthogonal(self.b)"
    with pytest.raises(
        TaskError, match=r"^model.py, line 13: the parametrisation of 'b.weight' .*remove_parametrizations"
    ):
        _build(tmp_path, HEAD.format(more=more, forward="return self.b(self.a(x))"))


def test_example_may_say_what_samples_are_like(tmp_path: Path) -> None:
    model = HEAD.format(more="", forward="return self.b(self.a(torch.log(x - 100)))")
    with pytest.raises(TaskError, match=r"not finite; .* let example\(\) in model.py return"):
        _build(tmp_path, model)
    _build(tmp_path, model, example="\n\ndef example():\n    return 200 + torch.rand(5, 4)\n")


LATER = {
    "a counter": (
        "        self.k = 0",
        "self.k += 1; return self.b(self.a(x)) * (0.5 if self.k > 500 else 1.0)",
        "model.py, line 12: the attribute 'k' changes while the module runs",
    ),
    "a list": (
        "        self.a.k = []",
        "self.a.k.append(1); return self.b(self.a(x)) * (0.5 if len(self.a.k) > 500 else 1.0)",
        "the attribute 'a.k' changes while the module runs",
    ),
    "a function": (
        """
        class Bounded(torch.autograd.Function):
            @staticmethod
            def forward(context, x):
                return x.clamp(-500, 500)

            @staticmethod
            def backward(context, gradient):
                return gradient

        self.bounded = Bounded.apply""",
        "return self.b(self.bounded(self.a(x)))",
        "model.py, line 16: Bounded has a backward() of its own",
    ),
    "neither": ("        self.k = 0", "return self.b(self.a(x)) * (self.k + 1)", ""),
    "layers that keep things": (
        "        self.c, self.n = nn.LSTM(4, 4, batch_first=True), nn.BatchNorm1d(4)",
        "return self.b(self.a(self.n(self.c(x.unsqueeze(1))[0][:, 0])))",
        "",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_may_differ_later_or_elsewhere_is_built_with_a_warning(tmp_path: Path, name: str) -> None:
    more, forward, told = LATER[name]
    warnings = _build(tmp_path, HEAD.format(more=more, forward=forward)).warnings
    assert len(warnings) == bool(told)
    assert not told or told in warnings[0]
