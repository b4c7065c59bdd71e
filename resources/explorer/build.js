// Bundles source/ into explorer.js, with the licences of all packages in it: `make explorer`.
import { readdirSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const options = {
  absWorkingDir: import.meta.dirname,
  entryPoints: ["source/main.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
};

const { metafile } = await build({ ...options, write: false, metafile: true });
const packages = Object.keys(metafile.inputs)
  .map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
  .filter(Boolean);
const licences = [...new Set(packages)].sort().map((name) => {
  const folder = `${import.meta.dirname}/node_modules/${name}`;
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const { version } = JSON.parse(readFileSync(`${folder}/package.json`));
  return `${name} ${version}\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}`;
});
const banner = `/*\nMade by resources/explorer/build.js from resources/explorer/source. It contains:\n\n${licences.join("\n\n---\n\n")}\n*/`;
await build({ ...options, outfile: "explorer.js", banner: { js: banner.replaceAll("\r", "") } });
