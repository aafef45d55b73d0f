// Two callers' own code: Motoko's compiler reads an interface and a program, the JavaScript agent encodes an argument.
// Usage: node callers.mjs candid FILE.did | motoko FILE.mo | encode "[0.5, -1]"
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { IDL } from "@icp-sdk/core/candid";

const motoko = createRequire(import.meta.url)("motoko").default;
const [what, argument] = process.argv.slice(2);

const answers = {
  candid: () => motoko.parseCandid(readFileSync(argument, "utf8")) !== null,
  motoko: () => {
    motoko.write("Main.mo", readFileSync(argument, "utf8"));
    return motoko.check("Main.mo").map((diagnostic) => diagnostic.message);
  },
  encode: () => Buffer.from(IDL.encode([IDL.Vec(IDL.Float32)], [JSON.parse(argument)])).toString("hex"),
};
console.log(JSON.stringify(answers[what]()));
process.exit(0);
