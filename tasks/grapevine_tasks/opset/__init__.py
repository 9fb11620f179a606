"""The operators of opset 1: for each its arguments and their bounds, its shape rule and its cost.

`RULES` is what `checks` trusts: an operator that is not in it does not exist for a device. `table` is that
table, in the words of `signatures`; from the types of arguments to those of results: `shape_rules`; what it
costs: `costs`. To add an operator: give it a number in `program.proto` and `grapevine_proto.program.Operator`, an
entry in the table, a function in `interpreter.kernels` and a translation in `authoring.translations`.
"""

from grapevine_tasks.opset.signatures import LARGEST_OPERAND, Kind, Rule, Slot
from grapevine_tasks.opset.table import RULES

__all__ = ["LARGEST_OPERAND", "RULES", "Kind", "Rule", "Slot"]
