"""An operator is described in one way, wherever it is described."""

from __future__ import annotations

import re
from importlib import resources

from grapevine_proto.program import Operator
from grapevine_tasks.authoring.graph_builder import _CONVERSIONS
from grapevine_tasks.authoring.translations import TRANSLATIONS
from grapevine_tasks.interpreter.kernels import KERNELS
from grapevine_tasks.opset import RULES


def test_every_operator_has_a_rule_a_kernel_and_a_translation() -> None:
    assert set(RULES) == set(Operator)
    assert set(KERNELS) == set(Operator)
    assert {translation.operator for translation in TRANSLATIONS.values()} | {*_CONVERSIONS.values()} == set(Operator)


def test_the_signatures_in_the_proto_file_are_those_of_the_rules() -> None:
    text = (resources.files("grapevine_proto") / "program.proto").read_text()
    written = dict(re.findall(r"OPERATOR_(\w+) = \d+;  // (\(.*?\) -> \d)", text))
    assert written == {operator.name: rule.signature() for operator, rule in RULES.items()}


def test_every_translation_fills_its_signature() -> None:
    for target, translation in TRANSLATIONS.items():
        assert len(translation.arguments) == len(RULES[translation.operator].slots), target
