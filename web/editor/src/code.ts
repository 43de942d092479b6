/** Languages of fenced code. Each comes when a fence names it; until then its code is plain. */

import { LanguageDescription, ParseContext, type LanguageSupport } from "@codemirror/language";
import type { Parser } from "@lezer/common";

const describe = (name: string, alias: string, load: () => Promise<LanguageSupport>): LanguageDescription =>
  LanguageDescription.of({ name, alias: alias ? alias.split(" ") : [], load });

const script = (options: { jsx?: boolean; typescript?: boolean }) => () =>
  import("@codemirror/lang-javascript").then(({ javascript }) => javascript(options));
const legacy = (name: "csharp" | "kotlin" | "scala" | "dart" | "shell" | "ruby" | "swift" | "lua" | "toml" | "dockerFile" | "diff" | "stex" | "r") => () =>
  import("./legacy").then(({ load }) => load(name));

const languages = [
  describe("JavaScript", "js mjs cjs node jsx", script({ jsx: true })),
  describe("TypeScript", "ts tsx", script({ jsx: true, typescript: true })),
  describe("Python", "py python3", () => import("@codemirror/lang-python").then(({ python }) => python())),
  describe("JSON", "json5 jsonc", () => import("@codemirror/lang-json").then(({ json }) => json())),
  describe("HTML", "xhtml vue svelte", () => import("@codemirror/lang-html").then(({ html }) => html())),
  describe("CSS", "scss less", () => import("@codemirror/lang-css").then(({ css }) => css())),
  describe("XML", "svg rss", () => import("@codemirror/lang-xml").then(({ xml }) => xml())),
  describe("YAML", "yml", () => import("@codemirror/lang-yaml").then(({ yaml }) => yaml())),
  describe("SQL", "postgresql postgres mysql sqlite", () => import("@codemirror/lang-sql").then(({ sql }) => sql())),
  describe("Rust", "rs", () => import("@codemirror/lang-rust").then(({ rust }) => rust())),
  describe("Go", "golang", () => import("@codemirror/lang-go").then(({ go }) => go())),
  describe("Java", "", () => import("@codemirror/lang-java").then(({ java }) => java())),
  describe("C++", "c cpp h hpp cc cxx", () => import("@codemirror/lang-cpp").then(({ cpp }) => cpp())),
  describe("PHP", "", () => import("@codemirror/lang-php").then(({ php }) => php())),
  describe("C#", "csharp cs", legacy("csharp")),
  describe("Kotlin", "kt", legacy("kotlin")),
  describe("Scala", "", legacy("scala")),
  describe("Dart", "", legacy("dart")),
  describe("Shell", "sh bash zsh console shell-session", legacy("shell")),
  describe("Ruby", "rb", legacy("ruby")),
  describe("Swift", "", legacy("swift")),
  describe("Lua", "", legacy("lua")),
  describe("TOML", "ini", legacy("toml")),
  describe("Dockerfile", "docker", legacy("dockerFile")),
  describe("Diff", "patch", legacy("diff")),
  describe("LaTeX", "tex", legacy("stex")),
  describe("R", "rlang", legacy("r")),
];

/** What a fence says after its marks, as a language; null for one that is not known here. */
export function languageOf(info: string): LanguageDescription | null {
  const word = /^[^\s{},:]+/.exec(info.trim())?.[0];
  return word ? LanguageDescription.matchLanguageName(languages, word, false) : null;
}

export function codeParser(info: string): Parser | null {
  const found = languageOf(info);
  if (!found) return null;
  if (found.support) return found.support.language.parser;
  // Without a network the code stays plain, and nothing is lost.
  return ParseContext.getSkippingParser(found.load().catch((reason: unknown) => console.info("no highlighting:", reason)));
}
