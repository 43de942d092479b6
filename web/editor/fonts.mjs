/** Fonts in two parts: what most texts need, and the rest, which comes when a text has it. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import subset from "subset-font"; // HarfBuzz: a third of each file is enough to write English

const BASIC = `${String.fromCharCode(...Array.from({ length: 95 }, (_, at) => 32 + at))}\u00a0©«·»×–—‘’“”„•…−\ufb01\ufb02`;
const WEIGHTS = { min: 400, max: 700 };

const range = [...BASIC].map((letter) => `U+${letter.codePointAt(0).toString(16)}`).join(",");

/** Adds to the styles of each font a face with the basic letters alone. */
export function basicFonts() {
  return {
    name: "basic-fonts",
    enforce: "pre",
    async transform(code, id) {
      if (!/fontsource-variable\/.*\/wght(-italic)?\.css$/.test(id)) return null;
      const [whole, file] = /@font-face \{[^}]*url\(([^)]*-latin-wght-[^)]*)\)[^}]*\}/.exec(code) ?? [];
      if (!file) throw new Error(`${id} has no Latin font`);
      const options = { targetFormat: "woff2", variationAxes: { wght: WEIGHTS }, noLayoutClosure: true };
      const font = await subset(readFileSync(join(dirname(id), file)), BASIC, options);
      const made = join(import.meta.dirname, "node_modules", ".basic-fonts", basename(file).replace("-latin-", "-basic-"));
      mkdirSync(dirname(made), { recursive: true });
      writeFileSync(made, font);
      const basic = whole
        .replace(file, relative(dirname(id), made))
        .replace(/font-weight: [^;]*/, `font-weight: ${WEIGHTS.min} ${WEIGHTS.max}`)
        .replace(/unicode-range: [^;]*/, `unicode-range: ${range}`);
      // Of faces that have a letter, the last one counts.
      return `${code}\n${basic}\n`;
    },
  };
}
