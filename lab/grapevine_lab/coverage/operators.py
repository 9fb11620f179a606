"""docs/operators.md: the operators as a page, made from `program.proto`, the rules and the translations.

`python -m grapevine_lab.coverage.operators` writes it.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from grapevine_proto.program import OPSET, Operator
from grapevine_tasks.authoring.graph_builder import targets_of
from grapevine_tasks.opset import RULES

PAGE = Path("docs/operators.md")
_HEAD = """# The operators of operator set {opset}

{num} operators. A program names them by number and writes out every argument; `program.proto` says how. A device runs
nothing else. This page is written by `python -m grapevine_lab.coverage.operators`.

Arguments: `tensor` an earlier value (`?`: it may be left out), `operand` an earlier value or a number, `tensors` a list
of values, `size` a whole number or an earlier size, `sizes` a list of them (−1: what is left), `integer`, `real`,
`flag` numbers that are written out, `integer[n]` a list of n of them, `a..b` their bounds.

The last column has the operators of `torch.export` that become this one. What PyTorch itself writes with simpler
operators (`nn.MultiheadAttention`, `einsum`, `interpolate`, …) needs no entry, and neither does what depends on nothing
but the model: positions and masks are computed when a task is built. Which models that covers is in
[coverage.md](coverage.md).
"""
_SECTION = "\n## {title}\n\n| | operator | arguments | results | from |\n| --: | --- | --- | --- | --- |\n"
_LINE = re.compile(r"\s*OPERATOR_(\w+) = (\d+);  // \(.*?\) -> \d(?:  \[(.*)\])?$")


def operators_page() -> str:
    """The whole page."""
    text = (resources.files("grapevine_proto") / "program.proto").read_text(encoding="utf-8")
    page = _HEAD.format(opset=OPSET, num=len(Operator))
    for line in text.split("enum Operator {")[1].splitlines():
        if heading := re.fullmatch(r"  // (.*)", line):
            page += _SECTION.format(title=heading[1].capitalize())
        elif (found := _LINE.fullmatch(line)) and found[1] in Operator.__members__:
            page += _row(Operator[found[1]], found[3] or "")
    return page


def _row(operator: Operator, note: str) -> str:
    rule = RULES[operator]
    arguments = "; ".join(f"`{slot}`" for slot in rule.slots)
    results = f"{rule.num_results}{f': {note}' if note else ''}"
    sources = ", ".join(f"`{target}`" for target in targets_of(operator)) or "written while building"
    return f"| {operator.value} | {operator.name} | {arguments} | {results} | {sources} |\n"


if __name__ == "__main__":
    PAGE.write_text(operators_page(), encoding="utf-8")
