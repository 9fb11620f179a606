// The server's events: one snapshot, then patches. What is lost is asked for again, until it is there.

const AGAIN_MS = 2000;

/** Listen until the page ends. `told` gets ("state" | "patch", content); `line` gets "live" | "lost". */
export function listen(told, line) {
  const source = new EventSource("/api/stream");
  for (const kind of ["state", "patch"]) {
    source.addEventListener(kind, (event) => {
      line("live");
      told(kind, JSON.parse(event.data));
    });
  }
  source.onerror = () => {
    line("lost");
    // A browser tries again by itself, except where it was answered with an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(told, line), AGAIN_MS);
  };
}

export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}
