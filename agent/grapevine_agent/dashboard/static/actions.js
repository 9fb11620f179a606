// What may be done from here: only with the token of the address, and only after a question.

import { $, make, setText, show } from "./dom.js";

const QUESTIONS = {
  approve: { title: "Approve this task?", button: "Approve", reason: "Why (optional, others read it)" },
  reject: { title: "Reject this task?", button: "Reject", reason: "Why (others read it)", needsReason: true },
  pause: { title: "Pause training?", button: "Pause" },
  resume: { title: "Let it train again?", button: "Resume" },
  kill: { title: "Kill this peer?", button: "Kill", text: "Its process ends at once, without a goodbye, as in a power cut." },
  restart: { title: "Start it again?", button: "Restart", text: "It stops if it runs, and starts with what it has saved." },
  partition: { title: "Cut the overlay in two?", button: "Cut", text: "Those marked hear nothing of the others until you heal it." },
  heal: { title: "Heal the overlay?", button: "Heal", text: "Everything that was cut passes again." },
};

/** The token of the address, which is taken out of it at once: it stays in this page's memory alone. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token || null;
}

export class Actions {
  constructor(say) {
    this.say = say;
    this.token = takeToken();
    this.offered = new Set();
    this.dialog = $("ask");
    this.dialog.querySelector("form").addEventListener("submit", (event) => this.answer(event));
    $("ask-cancel").addEventListener("click", () => this.dialog.close());
    globalThis.addEventListener("hashchange", () => {
      this.token = takeToken() ?? this.token;
      this.check();
    });
    this.check();
  }

  /** Whether the server takes our token; if not, nothing is offered, and it is said why. */
  async check() {
    if (!this.token) return;
    const answer = await fetch("/api/check", { headers: { Authorization: `Bearer ${this.token}` } }).catch(() => null);
    if (answer && answer.status === 401) {
      this.token = null;
      this.say((await answer.json().catch(() => ({}))).error || "The token of the address is wrong");
    }
    this.changed?.();
  }

  offer(names) {
    this.offered = new Set(names ?? []);
  }

  get isAllowed() {
    return Boolean(this.token);
  }

  may(name) {
    return this.isAllowed && this.offered.has(name);
  }

  /** Ask before doing it: about whom, and whatever else has to be said. */
  ask(name, body, { about = "", text = "", choices = [], owners = [], owner = null } = {}) {
    const question = QUESTIONS[name];
    this.asked = { name, body, choices };
    setText($("ask-title"), question.title);
    setText($("ask-about"), about);
    setText($("ask-text"), question.text ?? text);
    for (const id of ["ask-about", "ask-text"]) show($(id), $(id).textContent !== "");
    this.askReason(question);
    this.askOwner(owners, owner);
    $("ask-choices").replaceChildren(...choices.map(choice));
    show($("ask-choices-box"), choices.length > 0);
    setText($("ask-go"), question.button);
    show($("ask-error"), false);
    $("ask-go").disabled = false;
    this.dialog.showModal();
  }

  askReason(question) {
    const reason = $("ask-reason");
    show($("ask-reason-box"), Boolean(question.reason));
    setText($("ask-reason-label"), question.reason ?? "");
    reason.value = "";
    reason.required = Boolean(question.needsReason);
  }

  askOwner(owners, owner) {
    const select = $("ask-owner");
    select.replaceChildren(...owners.map((peer) => make("option", { value: peer.id, textContent: peer.name || peer.id })));
    if (owner) select.value = owner;
    show($("ask-owner-box"), owners.length > 1);
  }

  async answer(event) {
    event.preventDefault();
    const { name, body, choices } = this.asked;
    const told = { ...body };
    if (!$("ask-reason-box").hidden) told.reason = $("ask-reason").value.trim();
    if (!$("ask-owner-box").hidden) told.peer = $("ask-owner").value;
    if (choices.length) {
      const marked = new Set([...$("ask-choices").querySelectorAll("input:checked")].map((box) => box.value));
      told.sides = [choices.filter(({ id }) => marked.has(id)), choices.filter(({ id }) => !marked.has(id))].map((side) => side.map(({ id }) => id));
      if (told.sides.some((side) => side.length === 0)) return this.fail("Mark some, but not all: each side needs somebody.");
    }
    $("ask-go").disabled = true;
    try {
      const text = await this.post(name, told);
      this.dialog.close();
      this.say(text || `${name}: done`);
    } catch (error) {
      this.fail(error.message);
    } finally {
      $("ask-go").disabled = false;
    }
  }

  fail(text) {
    setText($("ask-error"), text);
    show($("ask-error"), true);
  }

  async post(name, body) {
    const answer = await fetch(`/api/actions/${encodeURIComponent(name)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token}` },
      body: JSON.stringify(body),
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok || told.ok === false) throw new Error(told.error || `${name} failed: ${answer.status} ${answer.statusText}`);
    return told.text;
  }
}

function choice({ id, name }) {
  return make("label.choice", {}, make("input", { type: "checkbox", value: id }), make("span", { textContent: name || id }));
}
