// What a screen reader is told while it happens: little, and several of a kind together.

const PAUSE_MS = 3000;
const IMPORTANT = new Set(["suspect", "silent", "killed", "offline"]);

export class News {
  constructor(place) {
    this.place = place;
    this.waiting = [];
    this.states = new Map();
    this.facts = new Map();
  }

  say(text) {
    this.waiting.push(text);
    this.due ??= setTimeout(() => this.tell(), this.waiting.length === 1 ? 60 : PAUSE_MS);
  }

  tell() {
    this.place.textContent = this.waiting.slice(0, 4).join(". ");
    const rest = this.waiting.length - 4;
    if (rest > 0) this.place.textContent += `. And ${rest} more`;
    this.waiting = [];
    this.due = null;
  }

  /** Compare who is in which state with what was told before. */
  watch(state) {
    const turned = new Map();
    for (const { id, name, state: now } of state.peers.values()) {
      const before = this.states.get(id);
      this.states.set(id, now);
      if (before === undefined || before === now) continue;
      if (IMPORTANT.has(now) || IMPORTANT.has(before)) turned.set(now, [...(turned.get(now) ?? []), name || id]);
    }
    for (const [now, names] of turned) {
      this.say(names.length > 3 ? `${names.length} peers are ${now}` : `${names.join(", ")} ${names.length > 1 ? "are" : "is"} ${now}`);
    }
    for (const id of this.states.keys()) if (!state.peers.has(id)) this.states.delete(id);
    for (const key of this.facts.keys()) {
      const [kind, id] = [key.slice(0, key.indexOf(" ")), key.slice(key.indexOf(" ") + 1)];
      if (!(kind === "task" ? state.tasks : state.brokers).has(id)) this.facts.delete(key);
    }
    for (const { id, name, connected } of state.brokers.values()) {
      this.compare(`broker ${id}`, connected, `broker ${name || id} is ${connected ? "connected" : "not connected"}`);
    }
    for (const { id, label, name, server } of state.tasks.values()) {
      this.compare(`task ${id}`, server ?? "", `server of ${label || name}: ${server || "none"}`);
    }
  }

  compare(key, now, text) {
    const before = this.facts.get(key);
    this.facts.set(key, now);
    if (before !== undefined && before !== now) this.say(text);
  }
}
