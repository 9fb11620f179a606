"""What a task says of samples: ranges, names of columns and classes, and a pipeline that fits together."""

from __future__ import annotations

import re

from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.checks.fields import in_range, one_of
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.pipelines import HOLDOUTS, derives_target, is_series, model_specs

_KIND = re.compile(r"[a-z0-9-]{1,64}")
_TEN_YEARS_S = 10 * 366 * 86400


def check_contract(contract: DataContract) -> None:
    """Raise TaskError, naming the key, its value and what to write, when no samples can be as it says."""
    if not _KIND.fullmatch(contract.kind):
        raise FieldTaskError("data.kind", f"data.kind is {contract.kind!r}; use 1 to 64 of a-z, 0-9 and '-'")
    in_range("data.scale", contract.scale, -1e9, 1e9)
    in_range("data.offset", contract.offset, -1e9, 1e9)
    if contract.scale == 0:
        raise FieldTaskError("data.scale", "data.scale is 0, which makes all samples alike; use 1 for no scaling")
    in_range("data.minimum_samples", contract.minimum_samples, 1, 2**40)
    in_range("data.num_classes", contract.num_classes, 0, 1_000_000)
    in_range("data.max_age_s", contract.max_age_s, 0, _TEN_YEARS_S)
    _check_holdout(contract)
    _check_columns("data.features", contract.features)
    _check_columns("data.target", contract.target)
    if contract.classes and len(contract.classes) != contract.num_classes:
        raise FieldTaskError(
            "data.classes",
            f"data.classes has {len(contract.classes)} names and data.num_classes is {contract.num_classes}: "
            "name each class once, or none",
        )
    if contract.num_classes and (contract.target.dtype, contract.target.shape) != ("int64", ()):
        raise FieldTaskError(
            "data.target", "data.target must be one int64 per sample (shape []) when data.num_classes is given"
        )
    made = model_specs(contract)[1]
    if derives_target(contract) and (contract.target.dtype, contract.target.shape) != (made.dtype, made.shape):
        raise FieldTaskError(
            "data.target",
            f"data.target is {shown(contract.target)} but data.pipeline makes {shown(made)}: "
            "write that, or leave data.target out of the task file",
        )


def _check_holdout(contract: DataContract) -> None:
    if contract.holdout:
        one_of("data.holdout", contract.holdout, HOLDOUTS)
    if contract.holdout in ("blocks", "random") and is_series(contract) and contract.features.dtype != "float32":
        raise FieldTaskError(
            "data.holdout",
            f"data.holdout is {contract.holdout!r}, and {shown(contract.features)} cannot say where a series is cut: "
            "use float32 features, or 'last'",
        )


def _check_columns(where: str, feature: FeatureSpec) -> None:
    if not feature.columns:
        return
    num_columns = {0: 1, 1: feature.shape[0] if feature.shape else 0}.get(len(feature.shape), 0)
    if len(feature.columns) != num_columns or len(set(feature.columns)) < num_columns:
        raise FieldTaskError(
            f"{where}.columns",
            f"{where}.columns has {len(feature.columns)} names for {shown(feature)}: "
            "write a different one for each number of a shape [k] or [], or none",
        )


def shown(feature: FeatureSpec) -> str:
    """A tensor's type, as people write it."""
    return f"{feature.dtype}{list(feature.shape)}"
