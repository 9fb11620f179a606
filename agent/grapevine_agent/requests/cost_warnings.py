"""What is odd about a task without being wrong: for the engineer to correct, for the reviewer to ask about."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from grapevine_proto.manifest import Optimiser, TaskManifest
from grapevine_proto.program import Program, Ref

LARGE_BYTES: Final = 20_000_000  # 8 s on a line of 20 Mbit/s
_HIGHEST_USUAL_RATE: Final[Mapping[str, float]] = {"sgd": 1.0}
_HIGHEST_USUAL_SCALED_RATE: Final = 0.02  # of optimisers that scale their steps, as Adam does
_LOWEST_USUAL_RATE: Final = 1e-6


def warnings_of(manifest: TaskManifest, message_bytes: int, trainer_mb: int) -> Iterator[str]:
    """One sentence each, with what to write instead. `message_bytes`: of an update; `trainer_mb`: to train it."""
    largest = max(message_bytes, manifest.initial_weights.num_bytes)
    if largest > LARGE_BYTES:
        yield f"its messages take up to {largest:,} bytes: {largest / 2_500_000:.0f} s each on a line of 20 Mbit/s"
    if not manifest.expires_at_ms:
        yield "it never expires: set task.lifetime_days"
    if (rate := _odd_rate(manifest.training.optimiser)) != "":
        yield rate
    if manifest.data.minimum_samples < manifest.training.batch_size:
        yield (
            f"a batch of {manifest.training.batch_size} is more than the {manifest.data.minimum_samples} samples that "
            "a device may come with: set data.minimum_samples"
        )
    if 0 < manifest.requirements.memory_mb < trainer_mb:
        yield f"requirements.memory_mb is {manifest.requirements.memory_mb}, but training takes about {trainer_mb} MB"
    if unread := _unread_parameters(manifest.program):
        yield f"the train graph never reads {', '.join(unread[:3])}{' …' if len(unread) > 3 else ''}"
    for what, text in (("name", manifest.name), ("description", manifest.description)):
        if len(alphabets := _alphabets(text)) > 1:
            yield f"its {what} mixes letters of {' and '.join(alphabets)}, which may look alike"


def _odd_rate(optimiser: Optimiser) -> str:
    highest = _HIGHEST_USUAL_RATE.get(optimiser.name, _HIGHEST_USUAL_SCALED_RATE)
    if _LOWEST_USUAL_RATE <= optimiser.learning_rate <= highest:
        return ""
    return (
        f"a learning rate of {optimiser.learning_rate:g} is unusual for {optimiser.name}, "
        f"which mostly takes {_LOWEST_USUAL_RATE:g} to {highest:g}"
    )


def _unread_parameters(program: Program) -> list[str]:
    read: set[int] = {program.train.output}
    for node in program.train.nodes:
        for argument in node.arguments:
            items = argument if isinstance(argument, tuple) else (argument,)
            read.update(item.value for item in items if isinstance(item, Ref))
    return [p.name for i, p in enumerate(program.parameters, program.first_parameter) if i not in read]


def _alphabets(text: str) -> list[str]:
    """The scripts of a text's letters, such as LATIN and CYRILLIC, sorted: those that share shapes."""
    found = {unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()}
    return sorted(found & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL"})
