// Reads every .cbor file of a folder and writes it again, with one library of CBOR and no knowledge of tosaic:
// a tensor becomes [dtype, dimensions, numbers] in NAME.json, and NAME.out.cbor what the library makes of the objects.
import fs from "node:fs";
import path from "node:path";

const [library, folder] = process.argv.slice(2);

const libraries = {
  cbor: async () => {
    const { default: cbor } = await import("cbor");
    return {
      decode: (data) => new Map(Object.entries(cbor.decodeFirstSync(data))),
      encode: (value) => cbor.encodeOne(value, { highWaterMark: 1 << 24 }),
      tagged: (tag, contents) => new cbor.Tagged(tag, contents),
      contents: (tag) => tag.value,
    };
  },
  cbor2: async () => {
    const { decode, encode, Tag } = await import("cbor2");
    return {
      decode: (data) => decode(data, { preferMap: true }),
      encode: (value) => encode(value),
      tagged: (tag, contents) => new Tag(tag, contents),
      contents: (tag) => tag.contents,
    };
  },
};

const { decode, encode, tagged, contents } = await libraries[library]();
// One library makes a Buffer of tag 64, and JSON of a Buffer.
const bytes = (elements) => (Buffer.isBuffer(elements) ? new Uint8Array(elements) : elements);
const plain = (number) => (typeof number === "bigint" ? number.toString() : number);

function described(tensor) {
  const [dtype, dimensions, elements] = Array.isArray(tensor) ? tensor : ["", ...contents(tensor)];
  return [dtype || bytes(elements).constructor.name, dimensions, Array.from(elements, plain)];
}

function rebuilt(tensor) {
  if (Array.isArray(tensor)) return tensor.map(bytes);
  return tagged(40, contents(tensor).map(bytes));
}

for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".cbor"))) {
  const tensors = decode(fs.readFileSync(path.join(folder, file)));
  const name = path.join(folder, path.basename(file, ".cbor"));
  const entries = [...tensors.entries()];
  fs.writeFileSync(`${name}.json`, JSON.stringify(entries.map(([key, tensor]) => [key, described(tensor)])));
  fs.writeFileSync(`${name}.out.cbor`, encode(new Map(entries.map(([key, tensor]) => [key, rebuilt(tensor)]))));
}
