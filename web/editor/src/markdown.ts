/** Markdown as CodeMirror reads it: the language, what its parts look like, and the keys that go on with it. */

import { insertNewlineContinueMarkup, deleteMarkupBackward, markdownLanguage, commonmarkLanguage } from "@codemirror/lang-markdown";
import { Language, LanguageSupport, syntaxHighlighting } from "@codemirror/language";
import { Prec, type Extension } from "@codemirror/state";
import { keymap } from "@codemirror/view";
import { tagHighlighter, tags } from "@lezer/highlight";
import { GFM, parseCode, type MarkdownParser } from "@lezer/markdown";
import { codeParser } from "./code";
import { math } from "./math";
import { preview } from "./preview";

const inline = tagHighlighter([
  { tag: tags.strong, class: "md-strong" },
  { tag: tags.emphasis, class: "md-em" },
  { tag: tags.strikethrough, class: "md-strike" },
  { tag: [tags.url, tags.labelName], class: "md-url" },
  { tag: tags.monospace, class: "md-code" },
  { tag: tags.processingInstruction, class: "md-mark" },
  { tag: [tags.contentSeparator, tags.comment, tags.escape, tags.character], class: "md-mark" },
]);

// Few inks: what is said, what it is said with, and what is only said about it.
const code = tagHighlighter([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier, tags.self, tags.tagName, tags.heading], class: "code-key" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp, tags.attributeValue, tags.inserted], class: "code-text" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom, tags.unit, tags.color], class: "code-value" },
  { tag: [tags.comment, tags.meta, tags.docString], class: "code-aside" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.definition(tags.variableName), tags.className, tags.typeName, tags.attributeName, tags.propertyName], class: "code-name" },
  { tag: [tags.deleted, tags.invalid], class: "code-wrong" },
]);

const parser = (commonmarkLanguage.parser as MarkdownParser).configure([GFM, math, parseCode({ codeParser })]);
// The data of the package's own language, by which its commands know where they may work.
const language = new Language(markdownLanguage.data, parser, [], "markdown");
const isOurs = (type: { isTop: boolean; name: string }): boolean => type.name === "Document";

export function markdown(): Extension {
  return [
    new LanguageSupport(language),
    syntaxHighlighting({ ...inline, scope: isOurs }),
    syntaxHighlighting({ ...code, scope: (type) => !isOurs(type) }),
    preview(parser),
    Prec.high(
      keymap.of([
        { key: "Enter", run: insertNewlineContinueMarkup },
        { key: "Backspace", run: deleteMarkupBackward },
      ]),
    ),
  ];
}
