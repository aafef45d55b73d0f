// Runs a model in onnxruntime-web (one thread) on a metered build of its WebAssembly, and reads the counter.
//
//     node session.mjs REQUEST.json
//
// REQUEST: {module, model, external: [{path, file}], counter, start, runs, inputs: [{name, type, dims, file}], outputs:
// [name], answer}. `counter` and `start` are the names of the exports that the meter adds. ANSWER: {load, runs: [instructions], memory_bytes, outputs: [{name, type,
// dims, file}]}; the files of outputs lie beside it.

import fs from "node:fs";
import path from "node:path";

import * as ort from "onnxruntime-web/wasm";

const FULL = 1n << 62n;
const ARRAYS = {
  bool: Uint8Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
  uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, float16: Uint16Array, float32: Float32Array,
  float64: Float64Array,
};

const request = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
let exports, memory;

// The library instantiates the module itself: see what it gets, and start it, which the meter leaves to its user.
const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
  const made = await instantiate.call(WebAssembly, ...given);
  exports = (made.instance ?? made).exports;
  memory = Object.values(given[1]).flatMap(Object.values).find((value) => value instanceof WebAssembly.Memory);
  exports[request.counter].value = FULL;
  exports[request.start]?.();
  return made;
};

async function counted(action) {
  const before = exports ? exports[request.counter].value : FULL;
  const result = await action();
  return [Number(before - exports[request.counter].value), result];
}

function tensor({ type, dims, file }) {
  const bytes = fs.readFileSync(file);
  const data = new ARRAYS[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return new ort.Tensor(type, data, dims);
}

function written(name, value, index) {
  const file = path.join(path.dirname(request.answer), `output_${index}.bin`);
  fs.writeFileSync(file, new Uint8Array(value.data.buffer, value.data.byteOffset, value.data.byteLength));
  return { name, type: value.type, dims: value.dims, file };
}

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = fs.readFileSync(request.module);
ort.env.logLevel = "error";
const model = fs.readFileSync(request.model);
const options = {
  executionProviders: ["wasm"],
  externalData: request.external.map(({ path, file }) => ({ path, data: fs.readFileSync(file) })),
};
const [load, session] = await counted(() => ort.InferenceSession.create(model, options));
const inputs = Object.fromEntries(request.inputs.map((input) => [input.name, tensor(input)]));
const runs = [];
let outputs;
for (let run = 0; run < request.runs; run++) {
  const [instructions, results] = await counted(() => session.run(inputs, request.outputs));
  runs.push(instructions);
  outputs = results;
}
fs.writeFileSync(request.answer, JSON.stringify({
  load, runs, memory_bytes: memory.buffer.byteLength,
  outputs: Object.entries(outputs).map(([name, value], index) => written(name, value, index)),
}));
