/** KaTeX and its looks, loaded when a text has math in it. */

import katex from "katex";
import "katex/dist/katex.min.css";

/** Draws a formula into an element; returns what is wrong with it, or null. */
export function render(tex: string, element: HTMLElement, displayMode: boolean): string | null {
  try {
    // What strangers wrote: no links, no classes of theirs, no macros that grow without end, no huge sizes.
    katex.render(tex, element, { displayMode, trust: false, maxExpand: 200, maxSize: 20, strict: "ignore", throwOnError: true });
    return null;
  } catch (error) {
    if (error instanceof katex.ParseError) return error.message;
    throw error;
  }
}
