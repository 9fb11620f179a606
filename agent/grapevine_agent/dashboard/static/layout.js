// Where everything stands: brokers at fixed places, peers around the brokers that they are connected to (d3-force).

const { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } = globalThis.d3;

const NODE = 9;
const SERVER = 15;
const BROKER = 17;
const FIRST_TICKS = 220;

const APART = 2.2; // of two brokers beside each other, in radiuses
const BETWEEN = 2; // of two rows of them
const WAVE = 0.27;

/** How many brokers stand in a row: as it makes everything largest in a picture of that form. */
function columnsOf(num, aspect) {
  let [best, largest] = [1, 0];
  for (let columns = 1; columns <= num; columns += 1) {
    const rows = Math.ceil(num / columns);
    const width = APART * (columns - 1) + 2;
    const height = rows > 1 ? BETWEEN * (rows - 1) + 2 : num > 2 ? 2 + 2 * WAVE * APART : 2;
    const size = Math.min(aspect / width, 1 / height);
    if (size > largest) [best, largest] = [columns, size];
  }
  return best;
}

export class Layout {
  constructor() {
    this.nodes = new Map();
    this.lines = [];
    this.radius = 100;
    this.aspect = 1.6;
    this.simulation = forceSimulation([]).stop();
  }

  /** Take over who is there; true if that changed where things stand. */
  update(state) {
    const isFirst = this.nodes.size === 0;
    const before = this.signature;
    const wanted = this.wanted(state);
    this.signature = wanted.map(({ id, brokers }) => `${id}:${brokers.join("+")}`).join(" ");
    if (this.signature === before) {
      for (const one of wanted) Object.assign(this.nodes.get(one.id), { record: one.record });
      return false;
    }
    this.place(wanted);
    this.connect();
    if (isFirst) this.tick(FIRST_TICKS);
    return true;
  }

  wanted(state) {
    const wanted = [];
    const counts = new Map();
    const peers = [...state.peers.values()];
    for (const peer of peers) for (const broker of peer.brokers) counts.set(broker, (counts.get(broker) ?? 0) + 1);
    this.radius = Math.max(104, 46 + Math.sqrt((Math.max(0, ...counts.values()) * 950) / Math.PI));
    for (const broker of state.brokers.values()) {
      wanted.push({ id: broker.id, kind: "broker", record: broker, r: BROKER, brokers: [] });
    }
    for (const peer of peers) {
      const brokers = peer.brokers.filter((id) => state.brokers.has(id));
      wanted.push({ id: peer.id, kind: "peer", record: peer, r: peer.role === "server" ? SERVER : NODE, brokers });
    }
    for (const group of state.shown.groups ?? []) {
      const brokers = state.brokers.has(group.broker) ? [group.broker] : [];
      wanted.push({ id: group.id, kind: "group", record: group, r: 12 + Math.sqrt(group.num) * 1.5, brokers });
    }
    return wanted;
  }

  place(wanted) {
    const brokers = wanted.filter((one) => one.kind === "broker");
    const places = new Map(brokers.map((one, number) => [one.id, this.brokerPlace(number, brokers.length)]));
    const nodes = new Map();
    wanted.forEach((one, number) => {
      const node = this.nodes.get(one.id) ?? this.begin(one, places, number);
      Object.assign(node, one);
      if (one.kind === "broker" && !node.isPinned) [node.fx, node.fy] = places.get(one.id);
      nodes.set(one.id, node);
    });
    this.nodes = nodes;
  }

  begin(one, places, number) {
    if (one.kind === "broker") {
      const [x, y] = places.get(one.id);
      return { x, y };
    }
    // Beside its broker, at an angle of its own: the golden one, so that neighbours do not start at one place.
    const [x, y] = places.get(one.brokers[0]) ?? [0, 0];
    const angle = number * 2.399963;
    const distance = this.radius * (0.55 + 0.4 * ((number * 0.618) % 1));
    return { x: x + Math.cos(angle) * distance, y: y + Math.sin(angle) * distance };
  }

  /** Rows of brokers, as many as the picture's form asks for, each row shifted by half a place. */
  brokerPlace(number, num) {
    const columns = columnsOf(num, this.aspect);
    const rows = Math.ceil(num / columns);
    const row = Math.floor(number / columns);
    const inRow = row === rows - 1 ? num - row * columns : columns;
    const apart = this.radius * APART;
    const x = ((number % columns) - (inRow - 1) / 2) * apart;
    // A single row is a gentle wave rather than a line.
    const wave = rows === 1 && num > 2 ? (number % 2 ? -WAVE : WAVE) * apart : 0;
    return [x, (row - (rows - 1) / 2) * this.radius * BETWEEN + wave];
  }

  /** Take another form of the picture; true if the brokers stand otherwise now. */
  reshape(aspect) {
    const num = [...this.nodes.values()].filter((node) => node.kind === "broker").length;
    const isOther = columnsOf(num, aspect) !== columnsOf(num, this.aspect);
    this.aspect = aspect;
    if (isOther) this.signature = null;
    return isOther;
  }

  connect() {
    const nodes = [...this.nodes.values()];
    this.lines = nodes.flatMap((node) => node.brokers.map((broker) => ({ source: node, target: this.nodes.get(broker) })));
    const isCrowded = this.radius > 120;
    const distance = ({ source, index }) => {
      if (source.kind === "group") return this.radius * 1.1;
      if (source.r === SERVER) return this.radius * 0.4;
      // A few make a ring; many fill the disc, evenly by the golden ratio.
      return this.radius * (isCrowded ? 0.3 + 0.66 * Math.sqrt((index * 0.618034) % 1) : 0.78);
    };
    this.simulation
      .nodes(nodes)
      .force("line", forceLink(this.lines).distance(distance).strength(({ source }) => (isCrowded ? 0.5 : 0.24) / source.brokers.length))
      .force("apart", forceManyBody().strength((node) => (node.kind === "peer" ? (isCrowded ? -14 : -55) : -160)).distanceMax(this.radius * 2))
      .force("room", forceCollide((node) => node.r + (nodes.length < 40 ? 12 : 4)).iterations(2))
      .force("x", forceX().strength((node) => (node.brokers.length ? 0 : 0.05)))
      .force("y", forceY().strength((node) => (node.brokers.length ? 0.004 : 0.07)))
      .alpha(Math.max(this.simulation.alpha(), 0.35));
    if (!this.hasStarted) this.simulation.alpha(1);
    this.hasStarted = true;
  }

  get isMoving() {
    return this.simulation.alpha() > 0.012;
  }

  tick(num = 1) {
    this.simulation.tick(num);
  }

  /** Come to rest at once, for who wants no motion. */
  settle() {
    for (let left = 400; this.isMoving && left; left -= 1) this.simulation.tick();
  }

  warm() {
    this.simulation.alpha(Math.max(this.simulation.alpha(), 0.2));
  }

  /** The smallest box around everything, with room for names. */
  box() {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const { x, y, r } of this.nodes.values()) {
      left = Math.min(left, x - r);
      right = Math.max(right, x + r);
      top = Math.min(top, y - r);
      bottom = Math.max(bottom, y + r + 16);
    }
    return this.nodes.size ? { left, top, right, bottom } : { left: -1, top: -1, right: 1, bottom: 1 };
  }

  /** The way from one node to another, bent towards the brokers that lie between. */
  way(from, to) {
    const [one, other] = [this.anchor(from), this.anchor(to)];
    const pull = 0.62;
    return [
      ((from.x + to.x) / 2) * (1 - pull) + ((one.x + other.x) / 2) * pull,
      ((from.y + to.y) / 2) * (1 - pull) + ((one.y + other.y) / 2) * pull,
    ];
  }

  anchor(node) {
    return this.nodes.get(node.brokers[0]) ?? node;
  }
}
