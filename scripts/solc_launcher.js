#!/usr/bin/env node
// The command line of the Solidity compiler over npm's `solc`, for py-solc-x, Ape, Foundry and Slither.
// scripts/install_compiler.py replaces the two placeholders below, and installs this file in py-solc-x's folder.
"use strict";
const fs = require("fs");
const path = require("path");
const VERSION = "__VERSION__";
const CLONE = "__CLONE__";

const options = { "--include-path": [], "--allow-paths": [], "--optimize-runs": "200" };
const operands = [];
const words = process.argv.slice(2).flatMap((word) => word.match(/^(--[\w-]+)=(.*)$/s)?.slice(1) ?? [word]);
while (words.length > 0) {
  const word = words.shift();
  if (["--include-path", "--allow-paths"].includes(word)) options[word].push(...words.shift().split(","));
  else if (["--base-path", "--evm-version", "--optimize-runs", "--combined-json"].includes(word)) options[word] = words.shift();
  else if (["--version", "--standard-json", "--optimize", "--via-ir"].includes(word)) options[word] = true;
  else if (word !== "-" && word.startsWith("-")) fail(`Unknown option ${word}: this is npm's solc behind a launcher.`);
  else operands.push(word);
}

const base = options["--base-path"] || ".";
const roots = [base, ...options["--include-path"]];
const remappings = operands.filter((operand) => operand.includes("="));
const files = operands.filter((operand) => operand !== "-" && !operand.includes("="));
const allowed = [...roots, ...options["--allow-paths"], ...remappings.map((text) => text.slice(text.indexOf("=") + 1))]
  .filter((folder) => fs.existsSync(folder))
  .map((folder) => fs.realpathSync(folder));

if (options["--version"]) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${VERSION}\n`);
} else if (options["--standard-json"]) {
  process.stdout.write(compile(fs.readFileSync(files[0] ?? 0, "utf8")));
} else if (options["--combined-json"]) {
  combined(options["--combined-json"].split(","));
} else {
  fail("Nothing to do: this launcher supports --version, --standard-json and --combined-json.");
}

function fail(sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exit(1);
}

// Another clone may have installed this file, so the working folder is searched first.
function solc() {
  const parents = [process.cwd()];
  while (path.dirname(parents.at(-1)) !== parents.at(-1)) parents.push(path.dirname(parents.at(-1)));
  for (const folder of [...parents, path.resolve(base), CLONE]) {
    const home = path.join(folder, "node_modules", "solc");
    const description = path.join(home, "package.json");
    if (!fs.existsSync(description)) continue;
    if (JSON.parse(fs.readFileSync(description, "utf8")).version === VERSION.split("+")[0]) return require(home);
  }
  return fail(`npm's solc ${VERSION.split("+")[0]} is missing: run \`npm ci\` in the clone of BlockOTA.`);
}

function compile(text) {
  return solc().compile(text, { import: load });
}

function load(name) {
  const candidates = roots.map((root) => path.resolve(root, name)).filter((file) => fs.existsSync(file));
  if (candidates.length === 0) return { error: "File not found." };
  const file = fs.realpathSync(candidates[0]);
  const inside = allowed.some((folder) => !path.relative(folder, file).startsWith(".."));
  return inside ? { contents: fs.readFileSync(file, "utf8") } : { error: "File outside of allowed directories." };
}

function combined(fields) {
  const sources = Object.fromEntries(files.map((file) => [file, { content: fs.readFileSync(file, "utf8") }]));
  const optimizer = { enabled: options["--optimize"] === true, runs: Number(options["--optimize-runs"]) };
  const settings = { remappings, optimizer, outputSelection: { "*": { "*": ["*"], "": ["ast"] } } };
  if (options["--evm-version"]) settings.evmVersion = options["--evm-version"];
  if (options["--via-ir"]) settings.viaIR = true;
  const output = JSON.parse(compile(JSON.stringify({ language: "Solidity", sources, settings })));
  for (const { formattedMessage } of output.errors ?? []) process.stderr.write(`${formattedMessage}\n`);
  if ((output.errors ?? []).some(({ severity }) => severity === "error")) process.exit(1);
  const contracts = {};
  for (const [file, members] of Object.entries(output.contracts ?? {})) {
    for (const [name, made] of Object.entries(members)) contracts[`${file}:${name}`] = pick(fields, made);
  }
  const units = Object.entries(output.sources).sort(([, one], [, other]) => one.id - other.id);
  const trees = Object.fromEntries(units.map(([file, unit]) => [file, { AST: unit.ast }]));
  const sourceList = units.map(([file]) => file);
  process.stdout.write(JSON.stringify({ contracts, sourceList, sources: trees, version: VERSION }));
}

function pick(fields, made) {
  const all = {
    abi: made.abi,
    bin: made.evm.bytecode.object,
    "bin-runtime": made.evm.deployedBytecode.object,
    srcmap: made.evm.bytecode.sourceMap,
    "srcmap-runtime": made.evm.deployedBytecode.sourceMap,
    hashes: made.evm.methodIdentifiers,
    userdoc: made.userdoc,
    devdoc: made.devdoc,
    metadata: made.metadata,
    "storage-layout": made.storageLayout,
  };
  return Object.fromEntries(fields.filter((field) => field in all).map((field) => [field, all[field]]));
}
