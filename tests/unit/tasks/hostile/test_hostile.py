"""Every attack of the corpus, in one process that may use little, is refused for the reason that it should be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.tasks.hostile import CORPUS
from tests.unit.tasks.hostile.attack import honest_manifest, judged

from grapevine_proto.manifest_codec import encode_manifest

REPOSITORY = Path(__file__).parents[4]
LONGEST_S = 2.0  # of one attack; computing, not waiting, on a processor that others use as well
LONGEST_MESSAGE = 1000  # characters: a refusal is a line in a log
MOST_BYTES = 300 * 2**20  # beyond what the process takes before the first attack


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.tasks.hostile.run"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"ended by {done.returncode}: {done.stderr[-2000:]}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("attack", CORPUS)
def test_an_attack_is_refused_with_its_reason(attack: str, found: dict[str, Any]) -> None:
    outcome = found["attacks"][attack]
    assert outcome["outcome"] == "refused", outcome["message"] or "it was taken"
    assert re.search(CORPUS[attack].reason, outcome["message"], re.DOTALL)
    assert len(outcome["message"]) <= LONGEST_MESSAGE
    assert outcome["cpu_s"] < LONGEST_S


def test_what_the_attacks_are_made_from_is_taken() -> None:
    assert judged(encode_manifest(honest_manifest())) == honest_manifest()


def test_thousands_of_random_changes_are_refused_or_sound(found: dict[str, Any]) -> None:
    mutations = found["mutations"]
    assert mutations["crashed"] == []
    assert mutations["longest_s"] < LONGEST_S
    # They would prove nothing if all of them failed at the first byte.
    assert mutations["taken"] > 50
    assert mutations["refused"] > 3000


def test_no_attack_makes_the_checks_take_memory(found: dict[str, Any]) -> None:
    assert found["grown_bytes"] < MOST_BYTES
