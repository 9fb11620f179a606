#!/usr/bin/env bash
# An exported program computes the module's outputs, and other gradients.
#
# Library:    torch 2.13.0 (torch.export, then run_decompositions, then module()).
# Input:      a layer whose backward is written by hand (gradient reversal), and a layer under torch.no_grad().
# Behaviour:  outputs agree to the bit, nothing warns; but
#             - without `strict`, the hand-written backward is gone: the reversed gradient comes out not reversed;
#             - with `strict=True` the layer before it gets no gradient at all, and after run_decompositions() it gets
#               one again, the not reversed one;
#             - a region under no_grad keeps its meaning in the export, and loses it in run_decompositions(): a layer
#               that is not trained in the module is trained in the program.
# Output seen:
#             2.13.0 reversal strict=False: eager -1.0, exported +1.0, decomposed +1.0
#             2.13.0 reversal strict=True: eager -1.0, exported none, decomposed +1.0
#             2.13.0 no_grad strict=False: eager none, exported none, decomposed +1.0
#             2.13.0 no_grad strict=True: eager none, exported none, decomposed +1.0
# Who builds training from exported programs must compare gradients, not only outputs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 2>/dev/null
cat > "$folder/look.py" <<'PY'
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Adversarial(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return Reversal.apply(self.first(x))


class HalfFrozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
        nn.init.ones_(self.last.weight)

    def forward(self, x):
        with torch.no_grad():
            hidden = self.first(x)
        return self.last(hidden)


def gradient(module, x):
    module.zero_grad()
    module(x).sum().backward()
    found = dict(module.named_parameters())["first.weight"].grad
    return "none" if found is None else f"{found.item():+.1f}"


x = torch.ones(1, 1)
for name, module in (("reversal", Adversarial()), ("no_grad", HalfFrozen())):
    for strict in (False, True):
        exported = torch.export.export(module, (x,), strict=strict)
        programs = (exported.module(), exported.run_decompositions().module())
        assert all(torch.equal(program(x), module(x)) for program in programs)
        eager, first, second = (gradient(each, x) for each in (module, *programs))
        version = torch.__version__.split("+")[0]
        print(f"{version} {name} strict={strict}: eager {eager}, exported {first}, decomposed {second}")
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(2\.13\.0 .*\)$/\1/p' "$0") && echo "as described"
