/** Languages that only have a tokenizer, from the time of CodeMirror 5. */

import { LanguageSupport, StreamLanguage, type StreamParser } from "@codemirror/language";

const modes = {
  csharp: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.csharp),
  kotlin: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.kotlin),
  scala: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.scala),
  dart: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.dart),
  shell: () => import("@codemirror/legacy-modes/mode/shell").then((mode) => mode.shell),
  ruby: () => import("@codemirror/legacy-modes/mode/ruby").then((mode) => mode.ruby),
  swift: () => import("@codemirror/legacy-modes/mode/swift").then((mode) => mode.swift),
  lua: () => import("@codemirror/legacy-modes/mode/lua").then((mode) => mode.lua),
  toml: () => import("@codemirror/legacy-modes/mode/toml").then((mode) => mode.toml),
  dockerFile: () => import("@codemirror/legacy-modes/mode/dockerfile").then((mode) => mode.dockerFile),
  diff: () => import("@codemirror/legacy-modes/mode/diff").then((mode) => mode.diff),
  stex: () => import("@codemirror/legacy-modes/mode/stex").then((mode) => mode.stex),
  r: () => import("@codemirror/legacy-modes/mode/r").then((mode) => mode.r),
};

export async function load(name: keyof typeof modes): Promise<LanguageSupport> {
  const parser = (await modes[name]()) as StreamParser<unknown>;
  return new LanguageSupport(StreamLanguage.define(parser));
}
