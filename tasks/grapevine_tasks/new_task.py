"""A folder to start a task from: `grapevine task new`. It can be built as it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from grapevine_proto.errors import RequestError, TaskError
from grapevine_tasks.built import MODEL_FILE
from grapevine_tasks.catalogue import catalogue_task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

TASK_TOML = '''\
# What devices need, and how they train and merge. Lines that begin with "#" and no space are settings,
# shown with their defaults or an example: remove that one character to change them.

[task]
name = "NAME"
description = """
What the model does, for whom, and what it learns from. Reviewers and owners read this."""
# Which of the versions of this task it is; `grapevine task revise` counts and names the parent by itself.
#version = 1
#parent = ""
# Peers that may act as servers of this task (`grapevine status` on the server shows its id).
#servers = []
# From publication on; 0: the task never expires.
#lifetime_days = 0.0
# Of the initial weights: the same seed, the same weights.
#seed = 0

[data]
# Owners label their data with this word: describe what a sample is, not what you do with it.
kind = "NAME-samples"
# 0: the target is not a class but a number, or several.
num_classes = 3
# What the classes are called, in their order; then num_classes may be left out.
#classes = ["first", "second", "third"]
# A device with fewer samples does not join.
#minimum_samples = 1
# The newest sample may be so old, in seconds; 0: any age.
#max_age_s = 0.0
# A feature reaches the model as (x - offset) * scale.
#scale = 1.0
#offset = 0.0

# One sample, without the batch: float32 or int64; [] is a single number.
[data.features]
name = "measurements"
dtype = "float32"
shape = [4]
# What each number of a row is called, where owners have tables or sensors.
#columns = ["a", "b", "c", "d"]

[data.target]
name = "class"
dtype = "int64"
shape = []

# Steps between an owner's samples and the model, in order: docs/training.md lists them all.
#[[data.pipeline]]
#name = "standardise"

[training]
# docs/training.md lists losses, metrics, optimisers and schedules, with their constants.
loss = "cross-entropy"
metric = "accuracy"
# A longer gradient is shortened to it; 0: never.
#max_gradient_norm = 0.0
#batch_size = 32
# Optimiser steps between two merges.
#steps_per_round = 10
# A round starts at most this often: devices have other work to do.
#round_interval_s = 1.0
# Local rounds, after which members only merge; 0: no end.
#num_rounds = 0

[training.optimiser]
# sgd, adam or adamw
name = "sgd"
learning_rate = 0.1
# sgd only
#momentum = 0.0
#weight_decay = 0.0

# How the learning rate follows the model's age, such as: down along a cosine of so many steps.
#[training.schedule]
#name = "cosine"
#steps = 10000

[merging]
# How members merge; docs/strategies.md lists them all, with their constants.
#strategy = "doubly-weighted"
# How a server merges, if one comes.
#server_strategy = "doubly-weighted"
# Gathered strategies merge at the end of a window of so many rounds.
#window_rounds = 1
# full, or delta: a base and the change since
#update_form = "full"
# log-n, log-log-n, constant, linear; token-account: saved for news; or every-round: to every neighbour after each round
#send_rate = "log-n"
#sends_per_round = 1.0
# push, or push-pull: whoever sends a model is sent one back, within the same number of sends
#exchange = "push"
# Of the send rate, while servers' models bring what members know.
#gossip_share_with_server = 0.02
#server_trust_cap = 100.0
# An update further away than this many usual distances is clipped; 0 is off.
#clip = 3.0
# How slowly the released model follows the merged one.
#ema = 0.95
# What members may write their vectors in; docs/strategies.md says what each costs. float32 always is one.
#encodings = ["float32", "int8+zstd"]
# An update more optimiser steps behind than this is stale: discount, or refuse. 0: none ever is.
#stale_after = 0
#stale = "discount"

# Constants of the two strategies; those that are not named here have their defaults.
#[merging.constants]
#p = 1.0
#[merging.server_constants]
#p = 1.0

# What a device must have before it may join.
[requirements]
#memory_mb = 0
#cores = 1
'''

MODEL_PY = '''\
"""The model of NAME. This file runs on your machine only: devices get the program made from it."""

from torch import nn


def build() -> nn.Module:
    """Take a batch [n, 4] of data.features and return [n, 3]: a score for each class."""
    return nn.Sequential(
        nn.Linear(4, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
'''

README_MD = """\
# NAME

What it learns, from which data, and what to expect of it.

    grapevine task build .       # after each change
    grapevine task publish .     # then reviewers approve it
    grapevine task watch NAME
    grapevine task pull NAME -o model.safetensors

## Give a device its data

An npz file with `x` of [n, 4] (float32) and `y` of [n] (0, 1 or 2), and in the agent's configuration:

```toml
[[data]]
kind = "NAME-samples"
path = "samples.npz"
```
"""


def new_task(name: str, *, into: Path, catalogue: str = "") -> Path:
    """Make the folder `into`/`name`, from the template or from a task of the catalogue.

    Raises RequestError for a name that cannot be a folder everywhere, TaskError where something is there already.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"the name {name[:80]!r}: write 1 to 64 letters, digits, '-' and '_', beginning with a letter or digit, "
            "as in my-task (the task's description may say anything)"
        )
    files = _copied(name, catalogue) if catalogue else _template(name)
    folder = into / name
    try:
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
    except FileExistsError:
        raise TaskError(f"{folder} is there already: choose another name, or move it away") from None
    except OSError as error:
        raise TaskError(f"{folder} cannot be written ({error.strerror}); choose another place with --dir") from None
    return folder


def _template(name: str) -> dict[str, str]:
    texts = {"task.toml": TASK_TOML, MODEL_FILE: MODEL_PY, "README.md": README_MD}
    return {file: text.replace("NAME", name) for file, text in texts.items()}


def _copied(name: str, catalogue: str) -> dict[str, str]:
    source = catalogue_task(catalogue)
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(source.iterdir())
        if path.is_file() and path.suffix in (".toml", ".py", ".md")
    }
    old = tomllib.loads(files["task.toml"])["task"]["name"]
    files["task.toml"] = files["task.toml"].replace(f'name = "{old}"', f'name = "{name}"', 1)
    return files
