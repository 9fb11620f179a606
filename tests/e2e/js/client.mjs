// A member of a Grapevine overlay that learns nothing: it reads, checks, fetches, sends and answers.
//
//   npm ci && node client.mjs URL ROOT TASK [--key FILE] [--reviewer ID …] [--heartbeat SECONDS] [--send SECONDS]
//
// Written from docs/wire-protocol.md and the .proto files alone, in the order of that page; read the two side by
// side. What it hears and does goes to stdout, one JSON object a line. It goes on until SIGINT or SIGTERM.
// A member that learns would also run the program, merge what comes in, and keep the sequences of records on disk.

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import mqtt from "mqtt";
import protobuf from "protobufjs";
import * as encodings from "./encodings.mjs";
const text = { type: "string" };
const known = { key: text, reviewer: { ...text, multiple: true }, heartbeat: text, send: text, proto: text };
const { values, positionals } = parseArgs({ allowPositionals: true, options: known });
const [BROKER, ROOT, TASK] = positionals;
const REVIEWERS = values.reviewer; // whose approvals count; none: anybody's
const [HEARTBEAT_S, SEND_S] = [Number(values.heartbeat ?? 5), Number(values.send ?? 5)];
const [ASK_AGAIN_S, APPROVALS, WEEK_MS] = [5, 2, 7 * 86_400_000];
const [CHUNK, WHOLE, CHUNKS_IN_NOTICE] = [120_000, 500_000, 64]; // bytes of a chunk, of a body that travels whole
const proto = new protobuf.Root();
const PROTOS = values.proto ?? new URL("../../../proto", import.meta.url).pathname;
proto.resolvePath = (_, target) => path.join(PROTOS, target);
proto.loadSync(["grapevine_proto/wire.proto", "grapevine_proto/manifest.proto"], { keepCase: true });
const type = (name) => proto.lookupType(`grapevine.v1.${name}`);
const encode = (name, body) => Buffer.from(type(name).encode(body).finish());
const decode = (name, bytes) =>
  type(name).toObject(type(name).decode(bytes), { longs: Number, defaults: true, arrays: true, oneofs: true });

const say = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }));
const sha256 = (bytes) => crypto.createHash("sha256").update(bytes).digest();
const anyOf = (list) => list[crypto.randomInt(list.length)];
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
async function until(what, seconds = Infinity) {
  for (const end = Date.now() + seconds * 1000; !what() && Date.now() < end; ) await sleep(0.02);
}
function check(right, reason) {
  if (!right) throw new Error(reason); // the reasons are those of the page's table
}

// ---------------------------------------------------------------- a peer is an Ed25519 key
// From a PEM file, made if it is not there; without one the key lives as long as this process.
function ownKey() {
  if (values.key && fs.existsSync(values.key)) return crypto.createPrivateKey(fs.readFileSync(values.key));
  const made = crypto.generateKeyPairSync("ed25519").privateKey;
  if (values.key) fs.writeFileSync(values.key, made.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  return made;
}
function peerId(key) {
  const bits = [...sha256(key)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.slice(0, 100).replace(/.{5}/g, (five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five, 2)]);
}
const privateKey = ownKey();
const publicKey = Buffer.from(crypto.createPublicKey(privateKey).export({ format: "jwk" }).x, "base64url");
const ME = peerId(publicKey);

// ---------------------------------------------------------------- topics, and what is signed
const RECORDS = ["announcement", "state", "publication", "review"]; // of those that are subscribed to here
function topicOf(kind, { sender, receiver, task }) {
  if (["announcement", "state", "heartbeat"].includes(kind)) return `peer/${sender}/${kind}`;
  if (kind === "publication") return `peer/${sender}/task/${task}/manifest`;
  if (kind === "review") return `peer/${sender}/task/${task}/review`;
  return `inbox/${receiver}/${sender}`;
}
function signedBytes(below, message) {
  const parts = [Buffer.from("grapevine/v1"), Buffer.from(below), sha256(message)]; // this text, whatever ROOT is
  return Buffer.concat(parts.flatMap((part) => [Buffer.from([0, 0, part.length >> 8, part.length & 255]), part]));
}
const connection = { session: 0, sessions: [] }; // and its `client`; `sessions`: one's own last four
const recorded = {}; // topic → the last sequence of a record there
let passed = 0; // the last sequence of a passing message
function seal(kind, body, { receiver, expires_at_ms = 0, bulk, receiver_session = 0 } = {}) {
  const below = topicOf(kind, { sender: ME, receiver, task: TASK });
  const [now, isRecord] = [Date.now(), RECORDS.includes(kind)];
  const sequence = isRecord ? (recorded[below] = Math.max((recorded[below] ?? 0) + 1, now)) : ++passed;
  const header = { version: 1, sender: ME, session: connection.session, sequence, created_at_ms: now, expires_at_ms };
  const message = encode("Message", { ...header, hop_limit: 4, receiver_session, bulk, [kind]: body });
  const signature = crypto.sign(null, signedBytes(below, message), privateKey);
  const payload = encode("Envelope", { message, public_key: publicKey, signature });
  return { topic: `${ROOT}/${below}`, payload, qos: kind === "heartbeat" ? 0 : 1, retain: isRecord };
}
const publish = ({ topic, payload, ...how }, then) => connection.client.publish(topic, payload, how, then);
// The message in a payload, with its `kind` and the `task` of its topic; throws the reason why it is dropped.
function open(below, payload) {
  const [top, first, second, third] = below.split("/");
  const writer = top === "inbox" ? second : first;
  const { message: bytes, public_key: key, signature, hops } = decode("Envelope", payload);
  check(key.length === 32 && peerId(key) === writer, "key-mismatch");
  check(bytes, "unknown-body");
  const jwk = { key: { kty: "OKP", crv: "Ed25519", x: key.toString("base64url") }, format: "jwk" };
  check(crypto.verify(null, signedBytes(below, bytes), jwk, signature), "bad-signature");
  const message = decode("Message", bytes);
  const { sender, body: kind } = message;
  check(message.version === 1, "version");
  check(hops <= message.hop_limit, "hops");
  check(kind, "unknown-body");
  const place = { sender, receiver: ME, task: message[kind].task ?? third };
  check(sender === writer && topicOf(kind, place) === below, "topic-mismatch");
  return { ...message, kind, body: message[kind], task: place.task };
}

// ---------------------------------------------------------------- what counts: the newest record, each message once
const records = new Map(); // topic below the root → the record that counts there
const expired = ({ expires_at_ms: at }) => at > 0 && at < Date.now();
const current = (kind) => [...records.values()].filter((message) => message.kind === kind && !expired(message));
const stateOf = (peer) => current("state").find(({ sender }) => sender === peer);
// Offline is the last word of a session; a retraction beats the manifest for good.
const order = ({ kind, body, session, sequence }) =>
  kind === "state" ? [session, Number(!body.online), sequence] : [Number(body.statement === "retraction"), sequence];
// Whether this is news. An expired record stays in `records`: its sequence still keeps older ones out.
function keep(below, message) {
  check(!expired(message), "expired");
  const [mine, other] = [order(message), records.has(below) ? order(records.get(below)) : [-1]];
  const at = mine.findIndex((part, k) => part !== other[k]);
  if (at < 0) return false;
  check(mine[at] > other[at], "stale");
  if (message.body.manifest) {
    check(sha256(message.body.manifest).toString("hex") === message.task, "topic-mismatch");
    message.manifest = decode("TaskManifest", message.body.manifest);
    check(message.manifest.publisher === message.sender, "forged");
  }
  return records.set(below, message);
}
const windows = new Map(); // sender → [session, sequences] of the two newest
function once({ sender, session, sequence }) {
  const known = windows.get(sender) ?? [];
  if (!known.some(([of]) => of === session)) known.push([session, new Set()]);
  windows.set(sender, known.sort((a, b) => b[0] - a[0]).slice(0, 2));
  const taken = windows.get(sender).find(([of]) => of === session)?.[1];
  check(taken && !taken.has(sequence) && sequence > Math.max(...taken) - 1024, "replayed");
  taken.add(sequence);
  if (taken.size > 1024) taken.delete(Math.min(...taken));
}

// ---------------------------------------------------------------- chunks
const LARGE = { update: ["full", "base", "delta", "buffers"], released_model: ["full", "buffers"], blob: ["content"] };
const offered = new Map(); // transfer → the bulk and its index, for whoever asks
const transfers = new Map(); // sender/transfer → what is on its way here
const chunkOf = (bytes, k) => bytes.subarray(k * CHUNK, (k + 1) * CHUNK);
const transferOf = (digest) => digest.toString("hex").slice(0, 20);
// A body, or its notice and where the rest of it is.
function parted(kind, body) {
  const names = (LARGE[kind] ?? []).filter((name) => body[name]?.length); // by number
  const bytes = Buffer.concat(names.map((name) => body[name]));
  if (bytes.length <= WHOLE) return { body };
  const num = Math.ceil(bytes.length / CHUNK);
  const index = Buffer.concat([...Array(num).keys()].map((k) => sha256(chunkOf(bytes, k))));
  const digest = sha256(index);
  offered.set(transferOf(digest), { bytes, index });
  const fields = names.map((name) => type("Message").fields[kind].resolvedType.fields[name].id);
  const bulk = { digest, num_bytes: bytes.length, fields, lengths: names.map((name) => body[name].length) };
  const notice = Object.fromEntries(Object.entries(body).filter(([name]) => !names.includes(name)));
  return { body: notice, bulk: num > CHUNKS_IN_NOTICE ? bulk : { ...bulk, index } };
}
// To the inbox of a peer, whose session must be known: it drops what names another one.
function send(receiver, kind, whole, receiver_session = stateOf(receiver)?.session) {
  if (!receiver_session) return false;
  const { body, bulk } = parted(kind, whole);
  return publish(seal(kind, body, { receiver, bulk, receiver_session }));
}
// Answer a ChunkRequest. Chunks have no envelope: what they are is in the digest that the notice has signed.
function serve({ sender, session, body: { digest, index, chunks } }) {
  const held = offered.get(transferOf(digest));
  if (!held) return send(sender, "chunk_refusal", { digest, reason: "not held here" }, session);
  const topic = `${ROOT}/inbox/${sender}/${ME}/${transferOf(digest)}`;
  const put = (chunk) => publish({ topic, payload: encode("Chunk", chunk), qos: 1, retain: false });
  if (index) put({ index: true, offset: 0, content: held.index });
  for (const k of chunks.slice(0, 16)) put({ offset: k * CHUNK, content: chunkOf(held.bytes, k) });
  return say("served", { to: sender, index, chunks });
}
// A piece of a chunk, or of the index: that is right as soon as the SHA-256 over the whole of it is.
function takePiece(under, { index, offset, content }) {
  check(under, "not-asked");
  const k = index ? 0 : Math.floor(offset / CHUNK);
  const [whole, start] = index ? [under.index, offset] : [chunkOf(under.bytes, k), offset % CHUNK];
  check(start + content.length <= whole.length, "malformed");
  if (index ? under.indexed : under.right.has(k)) return; // it came twice
  content.copy(whole, start);
  if (index) under.indexed = sha256(whole).equals(under.digest);
  else if (sha256(whole).equals(under.index.subarray(32 * k, 32 * k + 32))) under.right.add(k);
}
// The body of a message. What travels apart is asked for, a few chunks at a time, and again after a while.
async function wholeBody({ sender, session, kind, body, bulk }, limit) {
  if (!bulk) return body;
  const { digest, num_bytes: size, fields, lengths, index } = bulk;
  const names = fields.map((id) => type("Message").fields[kind].resolvedType.fieldsById[id]?.name);
  check(names.every((name) => LARGE[kind].includes(name)) && names.length === lengths.length, "malformed");
  check(lengths.reduce((a, b) => a + b, 0) === size && size <= limit, "malformed");
  const num = Math.ceil(size / CHUNK);
  const under = { digest, bytes: Buffer.alloc(size), index: Buffer.alloc(32 * num), indexed: false, right: new Set() };
  const key = `${sender}/${transferOf(digest)}`;
  check(!transfers.has(key), "under way already");
  if (index.length) takePiece(under, { index: true, offset: 0, content: index });
  transfers.set(key, under);
  const here = () => under.right.size + under.indexed;
  for (let had = -1, idle = 0; under.right.size < num; ) {
    [had, idle] = [here(), here() > had ? 0 : idle + 1];
    if (idle > 10) transfers.delete(key);
    check(transfers.has(key), "refused, or no answer");
    const chunks = [...Array(num).keys()].filter((k) => !under.right.has(k)).slice(0, 4);
    const wanted = here() + (under.indexed ? chunks.length : 1);
    send(sender, "chunk_request", { digest, ...(under.indexed ? { chunks } : { index: true }) }, session);
    await until(() => here() >= wanted || !transfers.has(key), ASK_AGAIN_S);
  }
  transfers.delete(key);
  say("fetched", { from: sender, kind, bytes: size, chunks: num, index: index.length ? "in the notice" : "asked for" });
  let at = 0;
  for (const [k, length] of lengths.entries()) body[names[k]] = under.bytes.subarray(at, (at += length));
  return body;
}

// ---------------------------------------------------------------- what arrives
const heard = new Map(); // peer → when
const limits = {}; // the most bytes that a blob, an update, a released model may have here, once that is known
async function arrived(below, payload) {
  check(payload.length, "empty");
  const [top, , writer, transfer] = below.split("/");
  if (top === "inbox" && transfer) return takePiece(transfers.get(`${writer}/${transfer}`), decode("Chunk", payload));
  const message = open(below, payload);
  const { kind, sender, session, body } = message;
  const wrong = kind === "state" && !body.online && !leaving; // one's own will of before, that came late
  if (sender === ME) return wrong && publish(seal("state", { online: true }));
  const facts = { kind, sender, online: body.online, approved: body.approved, apart: Boolean(message.bulk) };
  if (RECORDS.includes(kind)) return keep(below, message) && say("verified", facts);
  check(top !== "inbox" || connection.sessions.includes(message.receiver_session), "old-session");
  once(message);
  heard.set(sender, Date.now());
  say("verified", facts);
  if (kind === "chunk_request") return serve(message);
  if (kind === "chunk_refusal") return transfers.delete(`${sender}/${transferOf(body.digest)}`);
  const refusal = "learns nothing"; // who joins waits for an answer
  if (kind === "model_request") return send(sender, "released_model", { task: body.task, refusal }, session);
  if (!(kind in limits) || body.task !== TASK) return undefined;
  if (kind === "update" && transfers.size) return undefined; // the next one will do as well
  return take(sender, kind, await wholeBody(message, limits[kind]));
}
const PLAIN = { numbers: 0, zstd: false };
let weights, released; // the task's, once they are here: `full` and `buffers`; whether a member's model has come
// How many numbers there must be, the task's program says: as many as the initial weights have.
function floats(bytes, { length }, how) {
  check(allowed().has(encodings.nameOf(how ?? PLAIN)), "encoding");
  const numbers = encodings.decode(bytes, length / 4, how ?? PLAIN);
  check(numbers, "wrong-shape");
  check(numbers.every(Number.isFinite), "non-finite");
  return numbers;
}
// θ of an update or a released model. Who gives no receipts is sent every base, so none is remembered here.
function theta({ full, base = [], delta = [], buffers, encoding, base_encoding: of_base, buffers_encoding }) {
  check(full.length ? !base.length && !delta.length : delta.length, "malformed");
  floats(buffers, weights.buffers, buffers_encoding);
  if (full.length) return floats(full, weights.full, encoding);
  const change = floats(delta, weights.full, encoding);
  return floats(base, weights.full, of_base).map((number, k) => number + change[k]);
}
function take(from, kind, { digest, content, refusal, age, ...model }) {
  if (kind === "blob") {
    const { initial_weights: named, program } = manifest();
    check(content.length === named.num_bytes && sha256(content).equals(named.digest), "digest");
    weights = { full: vector(content, program.parameters), buffers: vector(content, program.buffers) };
    return say("weights", { from, digest, bytes: content.length });
  }
  const numbers = refusal ? undefined : theta(model).length;
  released ||= kind === "released_model" && !refusal;
  return say(kind, { from, age, numbers, refusal, as: encodings.nameOf(model.encoding ?? PLAIN) });
}
// The tensors of a safetensors file in the order of the program, one after the other.
function vector(file, specs) {
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, start));
  return Buffer.concat(specs.map(({ name }) => file.subarray(...header[name].data_offsets.map((at) => start + at))));
}

// ---------------------------------------------------------------- a connection
let [leaving, version, tasks] = [false, 0, []]; // `version` of what is sent, `tasks` in the announcement
const device = { name: "javascript", profile: "generic", cores: 1, memory_mb: 64 };
const announce = () => publish(seal("announcement", { ...device, tasks }, { expires_at_ms: Date.now() + WEEK_MS }));
const beat = () => publish(seal("heartbeat", { progress: tasks.map((task) => ({ task, version, age: 0 })) }));
// A session is one connection. A library that connects again by itself shows the will of a session that has ended,
// so each connection is a new client here: with a new session, its will, and everything said anew.
function connect() {
  connection.session = Math.max(Date.now(), connection.session + 1);
  connection.sessions = [...connection.sessions, connection.session].slice(-4);
  const will = seal("state", { online: false });
  const client = mqtt.connect(BROKER, { protocolVersion: 4, clean: true, clientId: ME, reconnectPeriod: 0, will });
  connection.client = client;
  client.on("connect", () => {
    const ofPeers = ["announcement", "state", "heartbeat", `task/${TASK}/manifest`, `task/${TASK}/review`];
    const filters = [...ofPeers.map((end) => `peer/+/${end}`), `inbox/${ME}/+`, `inbox/${ME}/+/+`];
    client.subscribe(filters.map((filter) => `${ROOT}/${filter}`), { qos: 1 }); // before anybody can answer
    publish(seal("state", { online: true }));
    announce();
    beat();
    say("connected", { session: connection.session });
  });
  client.on("message", (topic, payload) => {
    const below = topic.slice(ROOT.length + 1);
    arrived(below, payload).catch((error) => say("dropped", { topic: below, reason: error.message }));
  });
  client.on("error", (error) => say("error", { reason: error.message }));
  client.on("close", () => leaving || setTimeout(connect, 1000 + 1000 * Math.random()));
}
// A broker throws the will of a client away that disconnects in good order, so what it says is said before.
function goodbye() {
  leaving = true;
  setTimeout(() => process.exit(1), 5000); // nobody has answered: then the broker sends the will
  publish(seal("state", { online: false }), () => connection.client.end(() => say("goodbye") ?? process.exit(0)));
}

// ---------------------------------------------------------------- taking part in a task
// What is sent of the weights: as int8 where the task allows it.
function written() {
  if (!allowed().has("int8")) return { ...weights };
  const encoding = { numbers: encodings.KNOWN.indexOf("int8") };
  return { ...weights, full: encodings.int8(encodings.decode(weights.full, weights.full.length / 4, PLAIN)), encoding };
}
const allowed = () => encodings.allowedBy(manifest().merging.encodings);
const manifest = () => current("publication").find(({ task, manifest: found }) => task === TASK && found)?.manifest;
function approved() {
  const trusted = (peer) => peer !== manifest().publisher && (!REVIEWERS || REVIEWERS.includes(peer));
  const holds = (body) => body.task === TASK && body.approved && !body.withdrawn && body.valid_until_ms > Date.now();
  return current("review").filter(({ sender, body }) => trusted(sender) && holds(body)).length >= APPROVALS;
}
function members() {
  const present = (peer) => stateOf(peer)?.body.online && heard.get(peer) > Date.now() - 3500 * HEARTBEAT_S;
  const joined = current("announcement").filter(({ body }) => body.tasks.includes(TASK));
  return joined.map(({ sender }) => sender).filter(present);
}
async function takePart() {
  await until(() => manifest() && approved());
  const { name, publisher, initial_weights: named } = manifest();
  const unknown = [...allowed()].filter((each) => !encodings.KNOWN.includes(each));
  if (unknown.length) return say("not joined", { unknown });
  say("approved", { name });
  limits.blob = named.num_bytes;
  const request = { task: TASK, digest: named.digest.toString("hex") };
  while (!weights) {
    // Each gives the same blob once in 30 s, so ask another one when nothing has come.
    send(anyOf([publisher, ...members()]), "blob_request", request);
    await until(() => weights || transfers.size, ASK_AGAIN_S);
    await until(() => !transfers.size);
  }
  limits.update = limits.released_model = 2 * weights.full.length + weights.buffers.length;
  tasks = [TASK];
  announce();
  beat();
  say("joined", { task: TASK });
  const sent = written();
  for (let asked = 0; !leaving; await sleep(SEND_S)) {
    if (!members().length) continue;
    const member = anyOf(members());
    if (send(member, "update", { task: TASK, version: ++version, ...sent })) say("sent", { to: member, version });
    if (released || transfers.size || Date.now() < asked + ASK_AGAIN_S * 1000) continue;
    if (send(member, "model_request", { task: TASK })) asked = Date.now();
  }
}

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, goodbye);
say("peer", { peer: ME });
connect();
setInterval(beat, HEARTBEAT_S * 1000);
setInterval(announce, WEEK_MS / 4);
await takePart();
