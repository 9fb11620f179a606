// The tasks: who reviewed them, what each owner's policy makes of that, and what somebody with the token may say.

import { keepRows, make, setText, show, svg } from "./dom.js";
import { listVerdicts } from "./lists.js";
import { stateWord } from "./shapes.js";
import { metric, several } from "./words.js";

const STANDINGS = ["approved", "waiting", "rejected", "expired", "retracted", "unwanted"];
const SIGNS = { approved: "M2.5 6.5L5 9L9.5 3.5", rejected: "M3 3L9 9M9 3L3 9", withdrawn: "M2.5 6H9.5" };

export class Tasks {
  constructor(place, { choose, act, may }) {
    Object.assign(this, { place, choose, act, may });
  }

  update(state, chosen) {
    const tasks = [...state.tasks.values()];
    show(document.getElementById("no-tasks"), tasks.length === 0);
    keepRows(this.place, tasks, (task) => task.id, (task) => this.card(task), (card, task) => this.change(card, task, chosen));
  }

  card(task) {
    const pieces = {
      name: make("span.task-name"), about: make("p.about"), facts: make("p.facts"), reviews: make("ul.reviews"),
      bar: make("div.bar", { "aria-hidden": "true" }), summary: make("summary"), verdicts: make("ul.verdicts", { tabIndex: 0, "aria-label": "What each peer makes of it" }),
    };
    const pick = make("button.pick", { type: "button", onclick: () => this.choose(task.id) }, pieces.name);
    const approve = make("button.small", { type: "button", onclick: () => this.act("approve", task) }, "Approve…");
    const reject = make("button.small", { type: "button", onclick: () => this.act("reject", task) }, "Reject…");
    pieces.details = make("details", {}, pieces.summary, pieces.verdicts);
    pieces.actions = make("div.actions", {}, approve, reject);
    const card = make(
      "li.task", {}, make("h3", {}, pick), pieces.about, pieces.facts, pieces.reviews,
      pieces.bar, pieces.details, pieces.actions,
    );
    pieces.details.addEventListener("toggle", () => this.listVerdicts(card));
    Object.assign(card, { pieces, pick, approve, reject });
    return card;
  }

  change(card, task, chosen) {
    const { pieces } = card;
    card.task = task;
    setText(pieces.name, task.label || task.name);
    const version = task.version == null ? "" : `version ${task.version} `;
    const publisher = task.publisher_name || task.publisher;
    setText(pieces.about, [version + (publisher ? `by ${publisher}` : ""), task.strategy].filter(Boolean).join(" · "));
    const facts = [several(task.num_members ?? 0, "member")];
    if (task.baseline != null) facts.push(`${task.baseline_name || "baseline"} ${metric(task, task.baseline, 0)}`);
    pieces.facts.replaceChildren(make("span", { textContent: facts.join(" · ") }));
    if (task.server && task.server !== "unknown") pieces.facts.append(make("span", { textContent: " · server " }), stateWord(task.server));
    card.classList.toggle("chosen", task.id === chosen?.id);
    card.pick.setAttribute("aria-pressed", String(task.id === chosen?.id));
    this.listReviews(pieces.reviews, task);
    this.drawBar(pieces, task);
    this.listVerdicts(card);
    show(card.approve, this.may("approve"));
    show(card.reject, this.may("reject"));
    show(pieces.actions, this.may("approve") || this.may("reject"));
  }

  listReviews(place, task) {
    const key = JSON.stringify(task.reviews ?? []);
    if (place.shown === key) return;
    place.shown = key;
    const rows = (task.reviews ?? []).map((review) => {
      const word = review.withdrawn ? "withdrawn" : review.approved ? "approved" : "rejected";
      const sign = make(`span.verdict-sign.${word}`, { "aria-hidden": "true" }, svg("svg", { viewBox: "0 0 12 12" }, svg("path", { d: SIGNS[word] })));
      const name = make("strong", { textContent: review.name || review.reviewer });
      const weight = review.counts === false ? make("span.quiet", { textContent: ", which counts for nobody here" }) : null;
      return make("li", {}, sign, make("span", {}, name, ` ${word}`, weight, review.reason ? make("q", { textContent: review.reason }) : null));
    });
    place.replaceChildren(...(rows.length ? rows : [make("li.quiet", { textContent: "No reviews yet" })]));
  }

  drawBar(pieces, task) {
    const verdicts = task.verdicts ?? [];
    const counts = new Map(Object.entries(task.standings ?? {}));
    if (!counts.size) for (const { standing } of verdicts) counts.set(standing, (counts.get(standing) ?? 0) + 1);
    const total = [...counts.values()].reduce((sum, num) => sum + num, 0);
    const known = STANDINGS.filter((standing) => counts.get(standing));
    keepRows(pieces.bar, known, (standing) => standing, (standing) => make(`span.standing-${standing}`), (piece, standing) => {
      piece.style.flexGrow = String(counts.get(standing));
    });
    show(pieces.bar, total > 0);
    show(pieces.details, total > 0);
    const words = [known.map((standing) => `${counts.get(standing)} ${standing}`).join(", ")];
    // Of very many only some are told one by one.
    if (verdicts.length === total) words.push(`${verdicts.filter((verdict) => verdict.joined).length} joined`);
    setText(pieces.summary, words.join(" · "));
  }

  listVerdicts({ pieces, task }) {
    if (!pieces.details.open) return;
    listVerdicts(pieces.verdicts, task.verdicts ?? [], ({ peer }) => peer, ({ name, peer }) => name || peer);
  }
}
