/** How long a text is. Counts are kept for the parts of a text that did not change. */

import type { EditorState, Text } from "@codemirror/state";
import { t } from "./strings";

export interface Length {
  words: number;
  characters: number;
}

// Scripts without spaces are counted by the letter, as their writers do.
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}]+(?:['’.\-_][\p{L}\p{N}\p{M}]+)*/gu;
const PAIR = /[\ud800-\udbff][\udc00-\udfff]/g;
const WORDS_A_MINUTE = 230;

const known = new WeakMap<Text, Length>();

export function lengthOf(text: Text): Length {
  let length = known.get(text);
  if (length) return length;
  if (text.children) {
    length = { words: 0, characters: text.children.length - 1 }; // the line ends between them
    for (const child of text.children) {
      const { words, characters } = lengthOf(child);
      length.words += words;
      length.characters += characters;
    }
  } else {
    const said = text.sliceString(0);
    length = { words: said.match(WORD)?.length ?? 0, characters: said.length - (said.match(PAIR)?.length ?? 0) };
  }
  known.set(text, length);
  return length;
}

/** Of all selections, or null when nothing is selected. */
export function selected({ doc, selection }: EditorState): Length | null {
  const ranges = selection.ranges.filter(({ empty }) => !empty);
  if (ranges.length === 0) return null;
  return ranges.reduce(
    (sum, { from, to }) => {
      const { words, characters } = from === 0 && to === doc.length ? lengthOf(doc) : lengthOf(doc.slice(from, to));
      return { words: sum.words + words, characters: sum.characters + characters };
    },
    { words: 0, characters: 0 },
  );
}

export function said(state: EditorState): { short: string; rows: [string, string][] } {
  const all = lengthOf(state.doc);
  const part = selected(state);
  const rows: [string, string][] = [
    [t.words, t.number(all.words)],
    [t.characters, t.number(all.characters)],
    [t.readingTime, t.minutes(Math.max(1, Math.round(all.words / WORDS_A_MINUTE)))],
  ];
  if (part) rows.push([t.selectedWords, t.number(part.words)], [t.selectedCharacters, t.number(part.characters)]);
  return { short: part ? t.wordsOf(part.words, all.words) : t.wordsSaid(all.words), rows };
}
