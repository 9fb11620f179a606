from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LabelOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_OPERATOR_IN: _ClassVar[LabelOperator]
    LABEL_OPERATOR_NOT_IN: _ClassVar[LabelOperator]
    LABEL_OPERATOR_EXISTS: _ClassVar[LabelOperator]
    LABEL_OPERATOR_ABSENT: _ClassVar[LabelOperator]
LABEL_OPERATOR_IN: LabelOperator
LABEL_OPERATOR_NOT_IN: LabelOperator
LABEL_OPERATOR_EXISTS: LabelOperator
LABEL_OPERATOR_ABSENT: LabelOperator

class ApplicationSpec(_message.Message):
    __slots__ = ("name", "author", "description", "components")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    author: str
    description: str
    components: _containers.RepeatedCompositeFieldContainer[Component]
    def __init__(self, name: _Optional[str] = ..., author: _Optional[str] = ..., description: _Optional[str] = ..., components: _Optional[_Iterable[_Union[Component, _Mapping]]] = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("name", "replicas", "where", "hours", "learning", "container")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    name: str
    replicas: int
    where: Where
    hours: Hours
    learning: LearningTask
    container: Container
    def __init__(self, name: _Optional[str] = ..., replicas: _Optional[int] = ..., where: _Optional[_Union[Where, _Mapping]] = ..., hours: _Optional[_Union[Hours, _Mapping]] = ..., learning: _Optional[_Union[LearningTask, _Mapping]] = ..., container: _Optional[_Union[Container, _Mapping]] = ...) -> None: ...

class Where(_message.Message):
    __slots__ = ("traits", "data_kinds", "cores", "memory_mb", "terms", "preferred", "apart_by")
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    DATA_KINDS_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_FIELD_NUMBER: _ClassVar[int]
    APART_BY_FIELD_NUMBER: _ClassVar[int]
    traits: _containers.RepeatedScalarFieldContainer[str]
    data_kinds: _containers.RepeatedScalarFieldContainer[str]
    cores: int
    memory_mb: int
    terms: _containers.RepeatedCompositeFieldContainer[LabelTerm]
    preferred: _containers.RepeatedCompositeFieldContainer[Preference]
    apart_by: str
    def __init__(self, traits: _Optional[_Iterable[str]] = ..., data_kinds: _Optional[_Iterable[str]] = ..., cores: _Optional[int] = ..., memory_mb: _Optional[int] = ..., terms: _Optional[_Iterable[_Union[LabelTerm, _Mapping]]] = ..., preferred: _Optional[_Iterable[_Union[Preference, _Mapping]]] = ..., apart_by: _Optional[str] = ...) -> None: ...

class LabelTerm(_message.Message):
    __slots__ = ("tests",)
    TESTS_FIELD_NUMBER: _ClassVar[int]
    tests: _containers.RepeatedCompositeFieldContainer[LabelTest]
    def __init__(self, tests: _Optional[_Iterable[_Union[LabelTest, _Mapping]]] = ...) -> None: ...

class LabelTest(_message.Message):
    __slots__ = ("key", "operator", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    operator: LabelOperator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., operator: _Optional[_Union[LabelOperator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class Preference(_message.Message):
    __slots__ = ("weight", "term")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    weight: int
    term: LabelTerm
    def __init__(self, weight: _Optional[int] = ..., term: _Optional[_Union[LabelTerm, _Mapping]] = ...) -> None: ...

class Hours(_message.Message):
    __slots__ = ("utc_offset_minutes", "spans", "days")
    UTC_OFFSET_MINUTES_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    utc_offset_minutes: int
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    days: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, utc_offset_minutes: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., days: _Optional[_Iterable[int]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("begin", "end")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: int
    end: int
    def __init__(self, begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class LearningTask(_message.Message):
    __slots__ = ("task", "strategy", "server", "servers")
    TASK_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    task: str
    strategy: str
    server: bool
    servers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[str] = ..., strategy: _Optional[str] = ..., server: _Optional[bool] = ..., servers: _Optional[_Iterable[str]] = ...) -> None: ...

class Container(_message.Message):
    __slots__ = ("image", "command", "environment", "memory_mb", "cpu_thousandths", "ports")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    CPU_THOUSANDTHS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    image: str
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.RepeatedCompositeFieldContainer[Variable]
    memory_mb: int
    cpu_thousandths: int
    ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, image: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Iterable[_Union[Variable, _Mapping]]] = ..., memory_mb: _Optional[int] = ..., cpu_thousandths: _Optional[int] = ..., ports: _Optional[_Iterable[int]] = ...) -> None: ...

class Variable(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
