// Suggests how a text goes on: opens a bundle, reads what is typed once, and searches with beams from the covers of the
// unfinished last word, as rnn-edge's Python runtime does. No dependencies but onnxruntime-web.

import { Network } from "./network.js";
import { Tokenizer, fromBytes, toBytes } from "./tokenizer.js";

const MOST_READ = 64; // paths that one search for covers reads on
const READ_AT_ONCE = 16;
const POSITIONS_KEPT = 64; // so that deleting letters costs nothing

export async function load(folder = "model/") {
  const base = new URL(folder, document.baseURI);
  const manifest = await (await fetched(new URL("manifest.json", base))).json();
  const files = {};
  for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
    files[name] = await (await fetched(new URL(name, base))).arrayBuffer();
    await check(name, files[name], bytes, sha256);
  }
  const json = (name) => JSON.parse(new TextDecoder().decode(files[name]));
  const graph = manifest.graphs.step;
  const network = await Network.open(new Uint8Array(files[graph.file]), graph);
  return new Model(network, new Tokenizer(json("tokenizer.json")), json("golden.json"), manifest);
}

export class Model {
  constructor(network, tokenizer, golden, manifest) {
    Object.assign(this, { network, tokenizer, golden, manifest });
    this.positions = new Map(); // by the tokens that were read
    const leftOut = new Set([tokenizer.endId, tokenizer.unknownId]);
    const spoken = tokenizer.tokenBytes.map((said, id) => ({ said, id })).filter(({ id }) => !leftOut.has(id));
    const order = (one, other) => (one.said < other.said ? -1 : one.said > other.said ? 1 : one.id - other.id);
    this.sorted = spoken.toSorted(order);
    this.byBytes = new Map(); // ids of the tokens that a word may be made of
    for (const { said, id } of tokenizer.kind === "words" ? [] : spoken) {
      this.byBytes.set(said, [...(this.byBytes.get(said) ?? []), id]);
    }
  }

  // Compare with the bundle's golden vectors; returns how far any number is from them, and throws if that is too far.
  async selfTest() {
    let worst = 0;
    for (const { tokens, best_tokens: best, best_logits: expected, states } of this.golden.cases) {
      const [{ logits, state }] = await this.network.step([tokens], [this.network.start()]);
      best.forEach((token, i) => (worst = Math.max(worst, Math.abs(logits[token] - expected[i]))));
      states.forEach(({ last_layer_begins: begins }, part) => {
        const last = state[part].subarray(-this.network.parts[part].width);
        begins.forEach((value, i) => (worst = Math.max(worst, Math.abs(last[i] - value))));
      });
    }
    if (!(worst <= this.golden.tolerance)) throw new Error(`this browser computes other numbers: ${worst} off`);
    return worst;
  }

  // The likeliest continuations of a text that is still being typed, best first: [{text, tokens, logProb}].
  async suggest(text, { beams = 8, count = 3, maxNewTokens = 4, stops = ["\n"] } = {}) {
    const rules = { ...this.tokenizer, maxNewTokens, stops: stops.map(toBytes) };
    let [settled, pending] = this.tokenizer.encodeTyping(text);
    if (this.tokenizer.endId !== null) settled = [this.tokenizer.endId, ...settled];
    else if (settled.length === 0) [settled, pending] = [this.tokenizer.encode(pending), ""];
    if (settled.length === 0) return [];
    const position = await this.#read(settled);
    const { paths, positions } = await this.#start(position, toBytes(pending), pending, beams, rules);
    const distinct = new Map();
    for (const path of await this.#search(paths, positions, beams, rules)) {
      const continuation = fromBytes(path.said);
      if (!distinct.has(continuation)) distinct.set(continuation, { ...path, text: continuation });
    }
    return [...distinct.values()].slice(0, count).map(({ text, tokens, logProb }) => ({ text, tokens, logProb }));
  }

  // Read tokens from the start, or on from the longest stretch of them that was read before.
  async #read(tokens) {
    const key = tokens.join();
    let known = tokens.length;
    while (known > 0 && !this.positions.has(tokens.slice(0, known).join())) known--;
    const before = this.positions.get(tokens.slice(0, known).join());
    let position = before;
    if (known < tokens.length) {
      [position] = await this.network.step([tokens.slice(known)], [before?.state ?? this.network.start()]);
    }
    this.positions.delete(key); // and back in as the newest
    this.positions.set(key, position);
    if (this.positions.size > POSITIONS_KEPT) this.positions.delete(this.positions.keys().next().value);
    return position;
  }

  // The first paths: the best covers of the word being typed; and a position for each that has not ended.
  async #start(position, typed, pending, beams, rules) {
    if (typed === "") return { paths: [{ tokens: [], logProb: 0, said: "", newTokens: 0 }], positions: [position] };
    let covers = await this.#covers(position, typed, beams);
    if (covers.length === 0) covers = [await this.#spell(position, this.tokenizer.encode(pending))];
    const paths = covers.map(({ tokens, logProb, rest }) =>
      ended({ tokens, logProb, newTokens: rest ? 1 : 0 }, rest, 0, rules),
    );
    const live = covers.filter((_, index) => !paths[index].finish);
    return { paths, positions: live.length ? await this.#follow(live) : [] };
  }

  #follow(covers) {
    return this.network.step(covers.map(({ tokens }) => [tokens.at(-1)]), covers.map(({ state }) => state));
  }

  // Token paths whose bytes begin with what was typed. Log-probs only fall along a path, so lengthening the likeliest
  // first finds the covers in their order.
  async #covers(position, typed, limit) {
    const found = [];
    const queue = this.#lengthen({ tokens: [], logProb: 0, left: typed }, position, limit);
    let read = 0;
    while (queue.length && found.length < limit) {
      queue.sort(likelierFirst);
      if (!queue[0].left) {
        found.push(queue.shift());
        continue;
      }
      const whole = queue.findIndex(({ left }) => !left);
      const partial = queue.splice(0, Math.min(whole < 0 ? queue.length : whole, limit, READ_AT_ONCE));
      read += partial.length;
      if (read > MOST_READ) continue;
      const positions = await this.#follow(partial);
      partial.forEach((path, row) => queue.push(...this.#lengthen(path, positions[row], limit)));
    }
    return found;
  }

  // Paths one token longer: the `limit` best that end here, and all that do not.
  #lengthen(path, { logits, state }, limit) {
    const { left } = path;
    const total = logTotal(logits);
    const whole = this.#startingWith(left).toSorted((one, other) => logits[other] - logits[one] || one - other);
    const part = [];
    for (let length = 1; length < left.length; length++) {
      part.push(...(this.byBytes.get(left.slice(0, length)) ?? []));
    }
    return [...whole.slice(0, limit), ...part].map((token) => {
      const said = this.tokenizer.tokenBytes[token];
      const logProb = path.logProb + logits[token] - total;
      const [rest, still] = [said.slice(left.length), left.slice(said.length)];
      return { tokens: [...path.tokens, token], logProb, rest, left: still, state };
    });
  }

  #startingWith(typed) {
    let [low, high] = [0, this.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle].said < typed) low = middle + 1;
      else high = middle;
    }
    const ids = [];
    for (; low < this.sorted.length && this.sorted[low].said.startsWith(typed); low++) ids.push(this.sorted[low].id);
    return ids;
  }

  // A cover of given tokens: the way out where none was found.
  async #spell(position, tokens) {
    let logProb = 0;
    for (const [index, token] of tokens.entries()) {
      logProb += position.logits[token] - logTotal(position.logits);
      if (index + 1 < tokens.length) [position] = await this.network.step([[token]], [position.state]);
    }
    return { tokens, logProb, rest: "", left: "", state: position.state };
  }

  // Beam search by probability: the likeliest paths that have not ended go on, until nothing that does can still be
  // among the best. Returns the paths that ended, best first.
  async #search(starts, positions, beams, rules) {
    let done = starts.filter(({ finish }) => finish);
    let paths = starts.filter(({ finish }) => !finish);
    while (paths.length) {
      const grown = paths
        .flatMap((path, parent) => grow(path, parent, positions[parent].logits, 2 * beams, rules))
        .sort((one, other) => other.logProb - one.logProb || one.parent - other.parent || one.token - other.token)
        .slice(0, 2 * beams);
      const finished = grown.slice(0, beams).filter(({ finish }) => finish);
      done = [...done, ...finished].sort((one, other) => other.logProb - one.logProb).slice(0, beams);
      const worst = done.length === beams ? done.at(-1).logProb : -Infinity;
      paths = grown.filter(({ finish }) => !finish).slice(0, beams).filter(({ logProb }) => logProb > worst);
      if (paths.length) {
        const states = paths.map(({ parent }) => positions[parent].state);
        positions = await this.network.step(paths.map(({ token }) => [token]), states);
      }
    }
    return done;
  }
}

function grow(path, parent, logits, count, rules) {
  const total = logTotal(logits);
  return best(logits, count, rules.unknownId).map((token) => {
    const longer = { tokens: [...path.tokens, token], logProb: path.logProb + logits[token] - total, parent, token };
    if (token === rules.endId) return { ...longer, said: path.said, newTokens: path.newTokens, finish: "end" };
    const said = path.said + rules.tokenBytes[token];
    return ended({ ...longer, newTokens: path.newTokens + 1 }, said, path.said.length, rules);
  });
}

// Cut what a path says at a stop string, and tell whether it ends there.
function ended(path, said, checked, { stops, maxNewTokens }) {
  const found = stops.map((stop) => said.indexOf(stop, Math.max(0, checked - stop.length + 1))).filter((at) => at >= 0);
  if (found.length) return { ...path, said: said.slice(0, Math.min(...found)), finish: "stop" };
  return { ...path, said, finish: path.newTokens >= maxNewTokens ? "length" : undefined };
}

// The ids of the highest scores, best first; of equals, the lowest.
function best(scores, count, leftOut) {
  const found = [];
  for (let id = 0; id < scores.length; id++) {
    if (id === leftOut || (found.length === count && scores[id] <= scores[found.at(-1)])) continue;
    let at = found.length;
    while (at > 0 && scores[found[at - 1]] < scores[id]) at--;
    found.splice(at, 0, id);
    if (found.length > count) found.pop();
  }
  return found;
}

// log(sum(exp(scores))): a score less this is a log-prob.
function logTotal(scores) {
  const highest = scores.reduce((one, other) => Math.max(one, other), -Infinity);
  return highest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - highest), 0));
}

function likelierFirst(one, other) {
  if (one.logProb !== other.logProb) return other.logProb - one.logProb;
  const at = one.tokens.findIndex((token, i) => token !== other.tokens[i]);
  return at < 0 ? 0 : one.tokens[at] - (other.tokens[at] ?? -1);
}

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname} cannot be fetched: ${answer.status} ${answer.statusText}`);
  return answer;
}

// Refuse a file that is not the one the manifest names. Browsers hash only on https and localhost.
async function check(name, content, bytes, sha256) {
  if (content.byteLength !== bytes) throw new Error(`${name} has ${content.byteLength} bytes and should have ${bytes}`);
  if (!crypto.subtle) return;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error(`${name} was changed after the export: its sha256 differs`);
}
