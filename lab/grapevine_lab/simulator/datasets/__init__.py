"""The data sets that a simulation can share out among its nodes, each under a name.

| name | kind | samples | grouped by |
|---|---|---|---|
| `digits` | `digits-8x8` | scikit-learn's 1,797 digits, always there | |
| `mnist` | `mnist-28x28` | 60,000 + 10,000 digits | |
| `mnist-by-writer` | `mnist-28x28` | the same, each with the one who wrote it | writer |
| `unipen-by-writer` | `characters-28x28` | digits and letters of 210 writers, 62 classes | writer |
| `unipen-80` | `characters-28x28` | those of 80 writers, about 108 each | writer |
| `irish-weather` | `weather-24x4` | a day at one of 25 stations, and the temperature after it | station |
| `linear-regression` | `linear-regression-100` | synthetic | user |
| `nonlinear-regression` | `nonlinear-regression-2` | synthetic | user |
| a path that ends in `.npz` | as told | a file of one's own | group, if it has any |

Files are looked for in the folder that is given, else in `$GRAPEVINE_DATA`, else in
`$XDG_CACHE_HOME/grapevine` (`~/.cache/grapevine`). Samples are raw numbers, as they lie on disk:
the task's data contract scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_agent.config.toml_reader import Table, suggestion
from grapevine_lab.simulator.datasets import images, own, regression, weather
from grapevine_lab.simulator.datasets.dataset import Dataset, DatasetFacts, DatasetPlan, data_folder
from grapevine_proto.errors import ConfigError

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetEntry",
    "DatasetFacts",
    "DatasetPlan",
    "data_folder",
    "dataset_facts",
    "load_dataset",
    "read_dataset",
]


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A set that has a name: what it is, how it is loaded, and what is known of it before that."""

    description: str
    load: Callable[[DatasetPlan, Path], Dataset]
    facts: Callable[[DatasetPlan], DatasetFacts]
    is_synthetic: bool = False


def _known(facts: DatasetFacts) -> Callable[[DatasetPlan], DatasetFacts]:
    return lambda _plan: facts


DATASETS: Final[dict[str, DatasetEntry]] = {
    "digits": DatasetEntry(
        description="handwritten digits of 8x8 pixels, which come with scikit-learn",
        load=images.load_digits,
        facts=_known(images.DIGITS),
    ),
    "mnist": DatasetEntry(
        description="handwritten digits of 28x28 pixels", load=images.load_mnist, facts=_known(images.MNIST)
    ),
    "mnist-by-writer": DatasetEntry(
        description="MNIST's digits with the writer of each",
        load=images.load_mnist_by_writer,
        facts=_known(images.MNIST_BY_WRITER),
    ),
    "unipen-by-writer": DatasetEntry(
        description="digits and letters drawn with a pen by 210 writers",
        load=images.load_unipen,
        facts=_known(images.UNIPEN),
    ),
    "unipen-80": DatasetEntry(
        description="digits and letters drawn with a pen by 80 writers",
        load=images.load_unipen,
        facts=_known(images.UNIPEN_80),
    ),
    "irish-weather": DatasetEntry(
        description="hourly weather at 25 stations in Ireland in 2017",
        load=weather.load_irish_weather,
        facts=_known(weather.IRISH_WEATHER),
    ),
    "linear-regression": DatasetEntry(
        description="linear regression in 100 dimensions, synthetic",
        load=regression.load_regression,
        facts=regression.facts,
        is_synthetic=True,
    ),
    "nonlinear-regression": DatasetEntry(
        description="regression with a product of parameters in 2 dimensions, synthetic",
        load=regression.load_regression,
        facts=regression.facts,
        is_synthetic=True,
    ),
}


def load_dataset(chosen: str | DatasetPlan, folder: Path | None = None) -> Dataset:
    """Load a data set by its name (see the module's docstring) or as planned.

    Args:
        chosen: A name or a path ending in `.npz`, which stand for a plan without options; or a plan.
        folder: Where its files are, instead of the usual places.

    Raises:
        ConfigError: There is no such set, its files are not there or are not what they should be;
            the message says what was looked for, where, and how to get it.
    """
    plan = DatasetPlan(name=chosen) if isinstance(chosen, str) else chosen
    if plan.is_own_file:
        return own.load_own(plan)
    return _entry(plan).load(plan, folder or data_folder())


def dataset_facts(chosen: str | DatasetPlan) -> DatasetFacts:
    """What can be known of a data set without loading its samples: enough to check a partition.

    Of a file of one's own, only labels and groups are read. Raises `ConfigError` as `load_dataset`.
    """
    plan = DatasetPlan(name=chosen) if isinstance(chosen, str) else chosen
    if plan.is_own_file:
        return own.facts(plan)
    return _entry(plan).facts(plan)


def read_dataset(table: Table, base: Path | None = None, *, num_users: int = 10) -> DatasetPlan:
    """Read `name = "…"` and the keys that this set knows; any other key is an error.

    Every set that is downloaded by torchvision knows `download`, a file of one's own `kind`, the
    synthetic ones `seed`, `num_users`, `num_distributions` and `samples_per_user`.

    Args:
        table: Of a scenario's file.
        base: Where a relative path starts, usually the scenario's folder; None: the working directory.
        num_users: What `num_users` is where it is not written, usually the number of nodes.

    Raises:
        ConfigError: Naming key, value and remedy.
    """
    name = table.text("name", hint='"digits" or "path/to/samples.npz"')
    if name.endswith(own.SUFFIX):
        path = (base or Path()) / Path(name).expanduser()
        kind = table.text("kind", "", pattern=r"[a-z0-9-]{1,64}", hint='"digits-8x8", the kind that the task takes')
        table.finish()
        return DatasetPlan(name=str(path), kind=kind)
    if name not in DATASETS:
        raise table.error("name", f"there is no such data set; {suggestion(name, DATASETS)}")
    if DATASETS[name].is_synthetic:
        users = table.integer("num_users", num_users, low=1, high=100_000)
        plan = DatasetPlan(
            name=name,
            seed=table.integer("seed", 0, low=0, high=2**63 - 1),
            num_users=users,
            num_distributions=table.integer("num_distributions", 1, low=1, high=users),
            samples_per_user=table.integer("samples_per_user", DatasetPlan.samples_per_user, low=2, high=1_000_000),
        )
    elif name in images.DOWNLOADED:
        plan = DatasetPlan(name=name, download=table.boolean("download", False))
    else:
        plan = DatasetPlan(name=name)
    table.finish()
    return plan


def _entry(plan: DatasetPlan) -> DatasetEntry:
    if plan.name not in DATASETS:
        raise ConfigError(
            f"there is no data set {plan.name!r}; {suggestion(plan.name, DATASETS)} "
            "(a file of your own is named by a path that ends in .npz)"
        )
    return DATASETS[plan.name]
