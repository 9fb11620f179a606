"""Holds discovery messages against Home Assistant's own code. Run as a program, in a process of its own:

    python -m tests.home_assistant.rules WHEEL… < messages (a JSON list of texts) > answers (a JSON list)

An answer is `{"taken": {component: its configuration}}` or `{"refused": why}`. The schemas, and what happens to a
message before them, are those of the wheels: `mqtt/discovery.py`, `schemas.py`, `sensor.py`, `switch.py`, `button.py`,
`config_validation.py` and the constants. They are imported from the wheels as they are, or translated where this Python
is too old for them (`syntax.py`). All else of Home Assistant (its core, its database, its web server) is a hollow
module: no rule is in it. A rule that is hollow nevertheless refuses everything, since it is a class that nothing is an
instance of.
"""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import json
import sys
import types
import typing
import warnings
import zipfile
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import jinja2
from tests.home_assistant.syntax import GENERIC, translate

_MQTT: Final = "homeassistant.components.mqtt"
_EMPTY: Final = frozenset(
    ("homeassistant", "homeassistant.components", _MQTT, "homeassistant.helpers", "homeassistant.util")
)
_REAL: Final = frozenset(
    (
        "homeassistant.const",
        "homeassistant.exceptions",
        "homeassistant.generated",
        "homeassistant.generated.entity_platforms",
        "homeassistant.helpers.config_validation",
        "homeassistant.helpers.deprecation",
        "homeassistant.util.signal_type",
        "homeassistant.util.unit_conversion",
        "homeassistant.util.yaml.objects",
        *(f"homeassistant.components.{each}" for each in ("sensor", "switch", "button")),
        *(f"homeassistant.components.{each}.const" for each in ("sensor", "switch", "button")),
        *(
            f"{_MQTT}.{each}"
            for each in (
                "abbreviations",
                "const",
                "schemas",
                "config",
                "util",
                "discovery",
                "sensor",
                "switch",
                "button",
            )
        ),
    )
)


class _Anything(type):
    """Classes that have every attribute: what stands for a name of a hollow module."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (_Hollow,), {})

    def __getitem__(cls, _key: object) -> Any:
        return cls

    def __or__(cls, _other: object) -> Any:
        return cls

    def __ror__(cls, _other: object) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __call__(cls, *arguments: Any, **_more: Any) -> Any:
        if len(arguments) == 1 and isinstance(arguments[0], types.FunctionType):
            return arguments[0]  # it was a decorator
        return type.__call__(cls)


class _Hollow(metaclass=_Anything):
    def __init_subclass__(cls, **_keywords: object) -> None:
        """Take what the real base would."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Hollow

    def __call__(self, *arguments: Any, **_more: Any) -> Any:
        if len(arguments) == 1 and isinstance(arguments[0], types.FunctionType):
            return arguments[0]
        return self

    def __getitem__(self, _key: object) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter(())


class _HollowModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        thing = _Anything(name, (_Hollow,), {})
        setattr(self, name, thing)
        return thing


class _Subscriptable:
    __slots__ = ()

    def __class_getitem__(cls, _key: object) -> Any:
        return cls


class FromWheels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from wheels; of Home Assistant only those that hold rules."""

    def __init__(self, wheels: Sequence[str]) -> None:
        self._files: dict[str, zipfile.ZipFile] = {}
        for wheel in wheels:
            archive = zipfile.ZipFile(wheel)
            self._files |= {name: archive for name in archive.namelist() if name.endswith(".py")}

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith("homeassistant") and fullname not in _REAL | _EMPTY:
            return None
        folder = fullname.replace(".", "/")
        for file, is_package in ((f"{folder}/__init__.py", True), (f"{folder}.py", False)):
            if file in self._files:
                return importlib.machinery.ModuleSpec(fullname, self, origin=file, is_package=is_package)
        return None

    def source(self, file: str) -> str:
        return self._files[file].read(file).decode()

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ in _EMPTY or module.__spec__ is None or module.__spec__.origin is None:
            return
        file = module.__spec__.origin
        source = self.source(file)
        try:
            ast.parse(source)
        except SyntaxError:
            translated = translate(source)
            source = translated.source
            module.__dict__.update({name.lstrip("*"): _variable(name) for name in translated.parameters})
        annotations_are_text = 0x1000000  # from __future__ import annotations
        code = compile(source, file, "exec", flags=annotations_are_text, dont_inherit=True)
        exec(code, module.__dict__)


class Hollow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands behind all other importers: what is not there is hollow."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in sys.stdlib_module_names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _HollowModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []


def _variable(name: str) -> object:
    if name.startswith("**"):
        return typing.ParamSpec(name[2:])
    return typing.TypeVarTuple(name[1:]) if name.startswith("*") else typing.TypeVar(name)


def _newer_python() -> None:
    """What these modules take from the standard library of a newer Python."""
    setattr(builtins, GENERIC, _Subscriptable)
    for name, thing in (
        ("override", lambda function: function),
        ("TypeAliasType", lambda _name, value, **_more: value),
        ("TypeIs", typing.TypeGuard),
        ("ReadOnly", typing.Required),
        ("NoDefault", None),
    ):
        if not hasattr(typing, name):
            setattr(typing, name, thing)
    if not hasattr(warnings, "deprecated"):
        setattr(warnings, "deprecated", lambda *_words, **_more: lambda thing: thing)  # noqa: B010


def _real_in_hollow(wheels: FromWheels) -> None:
    """Two rules that stand in modules which are hollow otherwise: entity categories, and that templates can be read."""
    entity, template, constants, errors, probatio = (
        import_module(f"homeassistant.{each}") if each != "probatio" else import_module(each)
        for each in ("helpers.entity", "helpers.template", "const", "exceptions", "probatio")
    )

    tree = ast.parse(translate(wheels.source("homeassistant/helpers/entity.py")).source)
    (found,) = (
        node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and "ENTITY_CATEGORIES_SCHEMA" in ast.unparse(node)[:40]
    )
    assert found.value is not None
    code = compile(ast.Expression(found.value), "entity.py", "eval")
    known = {"probatio": probatio, "EntityCategory": constants.EntityCategory}
    setattr(entity, "ENTITY_CATEGORIES_SCHEMA", eval(code, known))  # noqa: B010

    class Template:
        def __init__(self, text: str, _hass: object = None) -> None:
            self.template = text

        def ensure_valid(self) -> None:
            try:
                jinja2.Environment().parse(self.template)
            except jinja2.TemplateError as error:
                raise errors.TemplateError(error) from None

    setattr(template, "Template", Template)  # noqa: B010


def main(wheels: Sequence[str]) -> None:
    _newer_python()
    found = FromWheels(wheels)
    sys.meta_path.insert(0, found)
    sys.meta_path.append(Hollow())
    _real_in_hollow(found)
    invalid = import_module("probatio").Invalid
    discovery, schemas = import_module(f"{_MQTT}.discovery"), import_module(f"{_MQTT}.schemas")
    platforms = {each: import_module(f"{_MQTT}.{each}") for each in ("sensor", "switch", "button")}

    def taken(text: str) -> dict[str, Any]:
        """As `discovery.py` does it: the device's message first, then each component with what they share."""
        message = discovery.MQTTDiscoveryPayload(json.loads(text))
        discovery._replace_all_abbreviations(message)
        device = schemas.validate_device_discovery_components(schemas.DEVICE_DISCOVERY_SCHEMA(message))
        components: dict[str, Any] = {}
        for name, config in device["components"].items():
            platform = config.pop("platform")
            if config:  # else it is removed
                component = discovery.MQTTDiscoveryPayload(config)
                component |= {"device": device["device"], "origin": device["origin"]}
                discovery._merge_common_device_options(component, device)
                components[name] = platforms[platform].DISCOVERY_SCHEMA(component)
        return components

    answers: list[dict[str, Any]] = []
    for text in json.load(sys.stdin):
        try:
            answers.append({"taken": taken(text)})
        except invalid as error:
            answers.append({"refused": str(error)})
    json.dump(answers, sys.stdout, default=str)


if __name__ == "__main__":
    main(sys.argv[1:])
