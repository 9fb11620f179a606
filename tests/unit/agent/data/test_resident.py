"""What a trainer counts as taken does not depend on what else the machine has in its page cache."""

from __future__ import annotations

import mmap
import subprocess
import sys
import textwrap
from pathlib import Path

from grapevine_agent.data.bounds import LIBRARIES, MIB, resident_bytes


def test_pages_of_files_count_as_far_as_a_start_from_cold_caches_has_them(tmp_path: Path) -> None:
    large = tmp_path / "library"
    large.write_bytes(bytes(2 * LIBRARIES))
    script = """
        import mmap, sys
        from grapevine_agent.data.bounds import resident_bytes
        before = resident_bytes()
        with open(sys.argv[1], "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        sum(mapped[k] for k in range(0, len(mapped), mmap.PAGESIZE))
        print(resident_bytes() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(large)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 < int(done.stdout) <= LIBRARIES


def test_what_is_its_own_counts_in_full() -> None:
    before = resident_bytes()
    own = mmap.mmap(-1, 64 * MIB)
    for k in range(0, len(own), mmap.PAGESIZE):
        own[k] = 1
    assert resident_bytes() - before > 60 * MIB
    own.close()
