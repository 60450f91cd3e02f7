// A step graph in onnxruntime-web: tokens and a state in, logits and the next state out. Keeps no state of its own.
// The contract is rnn-edge's docs/bundle-format.md.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";

ort.env.wasm.wasmPaths = { wasm: new URL("./onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.wasm.numThreads = 1; // small networks are slower with more
ort.env.logLevel = "error";

export class Network {
  constructor(session, graph) {
    this.session = session;
    this.parts = graph.inputs.slice(1).map(({ name, shape }) => ({ name, layers: shape[0], width: shape[2] }));
    this.vocabSize = graph.outputs[0].shape[1];
  }

  static async open(content, graph) {
    return new Network(await ort.InferenceSession.create(content, { executionProviders: ["wasm"] }), graph);
  }

  // The state of one row before its first token: a Float32Array (layers × width) for each part.
  start() {
    return this.parts.map(({ layers, width }) => new Float32Array(layers * width));
  }

  // Read on in every row. tokens: an array of equal length per row; states: one per row.
  // Returns per row the scores of the next token, a Float32Array (vocabulary), and the state after it.
  async step(tokens, states) {
    const [batch, time] = [tokens.length, tokens[0].length];
    const feed = { tokens: new ort.Tensor("int64", BigInt64Array.from(tokens.flat(), BigInt), [batch, time]) };
    this.parts.forEach(({ name, layers, width }, index) => {
      const data = new Float32Array(layers * batch * width);
      states.forEach((state, row) => {
        for (let layer = 0; layer < layers; layer++) {
          data.set(state[index].subarray(layer * width, (layer + 1) * width), (layer * batch + row) * width);
        }
      });
      feed[name] = new ort.Tensor("float32", data, [layers, batch, width]);
    });
    const found = await this.session.run(feed);
    const after = this.parts.map(({ name }) => found[`next_${name}`].data);
    return tokens.map((_, row) => ({
      logits: found.logits.data.slice(row * this.vocabSize, (row + 1) * this.vocabSize),
      state: this.parts.map(({ layers, width }, index) => {
        const state = new Float32Array(layers * width);
        for (let layer = 0; layer < layers; layer++) {
          const begin = (layer * batch + row) * width;
          state.set(after[index].subarray(begin, begin + width), layer * width);
        }
        return state;
      }),
    }));
  }
}
