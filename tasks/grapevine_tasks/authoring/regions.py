"""Where a module records no gradients: `torch.no_grad()` and `.data`, as operators DETACH of the graph.

`torch.export` keeps a stretch of code under `no_grad` as one node that calls a graph of its own. What makes the
graph functional afterwards opens that node and forgets why it was one: the stretch would be trained. So before
that happens each tensor that gradients could leave the stretch by is detached where it enters:

    y = call(no_grad, [linear ▶ relu], x, weight)     ▶     y = [linear ▶ relu](x, detach(weight))

Nothing within has a gradient then, as nothing had in the module; and autograd keeps nothing of it, as it kept
nothing there. What is under `enable_grad` within `no_grad` loses its gradients like this; no such module passes the
comparison of `comparison.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
_REGION: Any = torch.ops.higher_order.wrap_with_set_grad_enabled
_DATA = Tensor.data.__get__  # type: ignore[attr-defined]


class DataIsDetached(TorchFunctionMode):
    """Within, `x.data` is `x.detach()`: the same numbers without a gradient, and tracing can follow it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].detach() if func == _DATA else func(*args, **(kwargs or {}))


def detach_regions(exported: ExportedProgram, trainable: Collection[str]) -> None:
    """Detach what enters a stretch under `no_grad`; `trainable` are the names of parameters with gradients.

    Changes the graph in place; it must not have been made functional yet.
    """
    given = {
        spec.arg.name
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.PARAMETER and spec.target in trainable
    }
    _detach(exported.graph_module, given)


def _detach(module: fx.GraphModule, given: Collection[str]) -> None:
    """The same of one graph, whose inputs named `given` have gradients."""
    tracked: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        sources = [source for source in node.all_input_nodes if source in tracked]
        if node.op == "placeholder":
            tracked.update([node] if node.name in given else [])
        elif node.target is not _REGION:
            tracked.update([node] if sources and node.target is not aten.detach.default else [])
        elif node.args[0]:  # under `enable_grad`
            tracked.update([node] if sources else [])
            inner = getattr(module, str(node.args[1].target))
            names = [each.name for each in inner.graph.nodes if each.op == "placeholder"]
            _detach(inner, {name for name, source in zip(names, node.args[2:], strict=True) if source in tracked})
        else:
            for source in sources:
                if isinstance(source.meta.get("val"), Tensor) and source.meta["val"].is_floating_point():
                    _detach_before(module.graph, node, source)
    module.recompile()


def _detach_before(graph: fx.Graph, reader: fx.Node, source: fx.Node) -> None:
    with graph.inserting_before(reader):
        detached = graph.call_function(aten.detach.default, (source,))
    detached.meta = dict(source.meta)
    detached.meta["stack_trace"] = reader.meta.get("stack_trace")
    reader.replace_input_with(source, detached)


def reached_inputs(graph: fx.Graph, output: str) -> set[str]:
    """The names of a graph's inputs to which gradients come from its output."""
    nodes = {node.name: node for node in graph.nodes}
    reached: set[str] = set()
    pending = [output]
    while pending:
        name = pending.pop()
        if name not in reached and nodes[name].target is not aten.detach.default:
            reached.add(name)
            pending.extend(source.name for source in nodes[name].all_input_nodes)
    return {name for name in reached if nodes[name].op == "placeholder"}
