// Text to token ids and back, from a tokenizer.json as rnn-edge writes it: characters, words or byte-level BPE.
// Bytes are kept as "binary strings", one character a byte: they compare, slice and join as bytes do.

const END = "</s>";
const SILENT = [END, "<s>", "<pad>"]; // the last two in vocabularies of other projects only
const UNKNOWN = "<unk>";

export class Tokenizer {
  constructor(description) {
    const { model, pre_tokenizer: pre, decoder } = description;
    this.kind = { Sequence: "characters", Fuse: "words", ByteLevel: "bpe" }[decoder.type];
    this.ids = new Map(Object.entries(model.vocab));
    this.endId = this.ids.get(END) ?? null;
    this.unknownId = this.kind === "bpe" ? null : (this.ids.get(UNKNOWN) ?? null);
    this.tokenBytes = new Array(this.ids.size).fill("");
    if (this.kind === "bpe") this.alphabet = byteAlphabet();
    for (const [token, id] of this.ids) this.tokenBytes[id] = this.#bytesOf(token);
    if (this.kind === "characters") return;
    this.pieces = pieces(this.kind === "bpe" ? pre.pretokenizers[0].pattern.Regex : pre.pattern.Regex);
    this.ranks = new Map((model.merges ?? []).map((pair, rank) => [Array.isArray(pair) ? pair.join(" ") : pair, rank]));
    this.cache = new Map();
  }

  encode(text) {
    if (this.kind === "characters") return [...text].flatMap((character) => this.#character(character));
    return (text.match(this.pieces) ?? []).flatMap((piece) => this.#piece(piece));
  }

  // The tokens of a text that is still being typed, which stay whatever is typed next; and its pending last word.
  encodeTyping(text) {
    if (this.kind === "characters" || text === "") return [this.encode(text), ""];
    const found = text.match(this.pieces);
    const pending = found.pop();
    return [found.flatMap((piece) => this.#piece(piece)), pending];
  }

  decode(ids) {
    return fromBytes(ids.map((id) => this.tokenBytes[id]).join(""));
  }

  #character(character) {
    const id = this.ids.get(character);
    if (id !== undefined) return [id];
    if (this.unknownId !== null) return [this.unknownId];
    const spelled = [...toBytes(character)].map((byte) => this.ids.get(spellByte(byte.charCodeAt(0))));
    if (spelled.includes(undefined)) throw new Error(`this model does not know ${character}: leave it out`);
    return spelled;
  }

  #piece(piece) {
    if (this.kind === "words") {
      const id = this.ids.get(piece);
      return [id === undefined || id === this.endId ? this.unknownId : id];
    }
    let found = this.cache.get(piece);
    if (!found) {
      found = this.#merge([...toBytes(piece)].map((byte) => this.alphabet.signs.get(byte)));
      this.cache.set(piece, found);
    }
    return found;
  }

  // Join the two neighbours that were learnt first, until none is left (Sennrich et al. 2016).
  #merge(parts) {
    for (;;) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts.map((part) => this.ids.get(part));
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  #bytesOf(token) {
    if (this.kind === "bpe") return token === END ? "" : [...token].map((sign) => this.alphabet.bytes.get(sign)).join("");
    if (SILENT.includes(token)) return "";
    const byte = this.kind === "characters" && /^<0x([0-9A-F]{2})>$/.exec(token);
    return byte ? String.fromCharCode(parseInt(byte[1], 16)) : toBytes(token);
  }
}

export function toBytes(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

// Whole characters only: the beginning of a character at the end is left out.
export function fromBytes(bytes) {
  return new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)), { stream: true });
}

// In the tokenizer's expressions \s is Unicode's white space, which is not quite JavaScript's.
function pieces(pattern) {
  return new RegExp(pattern.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}"), "gu");
}

function spellByte(value) {
  return `<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`;
}

// Which sign stands for each byte in byte-level BPE (Radford et al. 2019).
function byteAlphabet() {
  const printable = (value) => (value >= 33 && value <= 126) || (value >= 161 && value !== 173);
  const signs = new Map();
  for (let value = 0, others = 0; value < 256; value++) {
    signs.set(String.fromCharCode(value), String.fromCodePoint(printable(value) ? value : 256 + others++));
  }
  return { signs, bytes: new Map([...signs].map(([byte, sign]) => [sign, byte])) };
}
