"""How smoothly the page draws: frames a second while messages fly, the longest wait between two, and long tasks.

    python -m tests.browser.frames --peers 200 --brokers 3 --seconds 10

Frames are counted twice: those that the page is asked to draw (requestAnimationFrame), and those that the browser's own
trace says were drawn, or dropped. Without a graphics card all of it is drawn by the processor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.browser.browsing import chromium, until
from tests.browser.made_swarm import MadeSwarm
from tests.browser.page_server import Stage, served

MEASURE = """async (seconds) => {
  const waits = [], long = [];
  const observer = new PerformanceObserver((list) => long.push(...list.getEntries().map((entry) => entry.duration)));
  observer.observe({ entryTypes: ["longtask"] });
  const { graph } = grapevinePage;
  const drawn = graph.frames, begin = performance.now();
  let before = await new Promise(requestAnimationFrame);
  while (performance.now() - begin < seconds * 1000) {
    const now = await new Promise(requestAnimationFrame);
    waits.push(now - before);
    before = now;
  }
  observer.disconnect();
  waits.sort((one, other) => one - other);
  const at = (share) => waits[Math.min(waits.length - 1, Math.floor(waits.length * share))];
  const passed = (performance.now() - begin) / 1000;
  return {
    frames_per_s: waits.length / passed, graph_frames_per_s: (graph.frames - drawn) / passed, median_ms: at(0.5),
    p99_ms: at(0.99), longest_ms: at(1), long_tasks: long.length,
    long_tasks_ms: long.reduce((sum, one) => sum + one, 0),
    heap_mb: performance.memory ? performance.memory.usedJSHeapSize / 1e6 : null,
  };
}"""


FRAMES = "disabled-by-default-devtools.timeline.frame"  # a category of the browser's trace


def live(stage: Stage, over: threading.Event) -> None:
    while not over.wait(0.25):
        stage.advance()


def measure(num_peers: int, num_brokers: int, seconds: float) -> dict[str, Any]:
    """Figures of so many seconds, once the graph has come to rest."""
    swarm = MadeSwarm(num_peers, num_brokers=num_brokers, steps=240)
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder, served(swarm) as stage, chromium(Path(folder)) as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(stage.url)
        page.wait_for_selector("body.begun")
        until(page, "!grapevinePage.graph.layout.isMoving", timeout_s=60)
        thread = threading.Thread(target=live, args=(stage, over), daemon=True)
        thread.start()
        browser.start_tracing(page=page, categories=["devtools.timeline.frame", FRAMES])
        figures: dict[str, Any] = page.evaluate(MEASURE, seconds)
        figures |= traced(browser.stop_tracing())
        over.set()
        thread.join()
    return {"peers": num_peers, **{name: value and round(value, 2) for name, value in figures.items()}}


def traced(trace: bytes) -> dict[str, float | int]:
    """What the browser's trace says of frames: drawn in a second, and dropped."""
    events = [
        event for event in json.loads(trace)["traceEvents"] if "DrawFrame" in event["name"] or "Drop" in event["name"]
    ]
    drawn = sorted(event["ts"] for event in events if event["name"] == "DrawFrame")
    passed_s = (drawn[-1] - drawn[0]) / 1e6 if len(drawn) > 1 else float("nan")
    return {
        "traced_frames_per_s": (len(drawn) - 1) / passed_s,
        "traced_dropped": sum(event["name"] == "DroppedFrame" for event in events),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.peers, asked.brokers, asked.seconds), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
