/** Find and replace, with CodeMirror's search under a panel of our own. Loaded when somebody looks for something. */

import { closeSearchPanel, findNext, findPrevious, getSearchQuery, openSearchPanel, replaceAll, replaceNext, search, SearchQuery, setSearchQuery } from "@codemirror/search";
import { Prec, StateEffect, type EditorState, type Extension } from "@codemirror/state";
import { EditorView, keymap, panels, type Panel, type ViewUpdate } from "@codemirror/view";
import { announce, h, icon } from "./element";
import { t } from "./strings";
import "./find.css";

const COUNT_LIMIT = 999;
const COUNT_MS = 120;
const WORD = "M3.5 5v10M16.5 5v10M7 12.5h6M8 10.5c0-3 4-3 4 0";

function count(state: EditorState, query: SearchQuery): { at: number; of: number } {
  const { main } = state.selection;
  let [at, of] = [0, 0];
  const cursor = query.getCursor(state);
  for (let next = cursor.next(); !next.done && of <= COUNT_LIMIT; next = cursor.next()) {
    of++;
    if (next.value.from === main.from && next.value.to === main.to) at = of;
  }
  return { at, of };
}

class FindPanel implements Panel {
  readonly top = true;
  readonly dom: HTMLElement;
  private readonly field = h("input", { type: "text", "aria-label": t.findWhat, placeholder: t.findWhat, autocomplete: "off", spellcheck: "false", "main-field": "true" });
  private readonly other = h("input", { type: "text", "aria-label": t.replaceBy, placeholder: t.replaceBy, autocomplete: "off", spellcheck: "false" });
  private readonly place = h("span", { class: "place", role: "status" });
  private readonly toggles: Record<"caseSensitive" | "wholeWord" | "regexp", HTMLButtonElement>;
  private readonly replacing: HTMLElement;
  private timer = 0;

  constructor(private readonly view: EditorView) {
    const toggle = (label: string, face: string | Node): HTMLButtonElement => {
      const button = h("button", { class: "tool-button", "aria-label": label, title: label, "aria-pressed": "false" }, face);
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        this.commit();
      });
      return button;
    };
    this.toggles = { caseSensitive: toggle(t.matchCase, "Aa"), wholeWord: toggle(t.wholeWord, icon(WORD)), regexp: toggle(t.regexp, ".*") };
    const tool = (label: string, path: string, run: () => void): HTMLElement => h("button", { class: "tool-button", "aria-label": label, title: label, onclick: run }, icon(path));
    const go = (run: (view: EditorView) => boolean) => () => {
      this.commit(false);
      run(view);
      this.recount();
    };
    const all = (): void => {
      this.commit(false);
      const { of } = count(view.state, getSearchQuery(view.state));
      replaceAll(view);
      announce(t.replaced(of));
    };
    const query = getSearchQuery(view.state);
    this.field.value = query.search;
    this.other.value = query.replace;
    for (const name of ["caseSensitive", "wholeWord", "regexp"] as const) this.toggles[name].setAttribute("aria-pressed", String(query[name]));
    const more = h("button", { class: "tool-button more", "aria-label": t.showReplace, title: t.showReplace, "aria-expanded": "false" }, icon("M7 8.5l3 3l3-3"));
    more.addEventListener("click", () => {
      this.replacing.hidden = !this.replacing.hidden;
      more.setAttribute("aria-expanded", String(!this.replacing.hidden));
      if (!this.replacing.hidden) this.other.focus();
    });
    more.hidden = view.state.readOnly;
    this.replacing = h(
      "div",
      { class: "line", hidden: true },
      this.other,
      h("button", { class: "quiet", onclick: go(replaceNext) }, t.replace),
      h("button", { class: "quiet", onclick: all }, t.replaceAll),
    );
    this.dom = h(
      "div",
      { class: "find", role: "search", "aria-label": t.find },
      h(
        "div",
        { class: "line" },
        more,
        h("span", { class: "looked" }, this.field, this.place),
        h("span", { class: "toggles" }, ...Object.values(this.toggles)),
        tool(t.previousMatch, "M5 12l5-5l5 5", go(findPrevious)),
        tool(t.nextMatch, "M5 8l5 5l5-5", go(findNext)),
        tool(t.closeFind, "M5 5l10 10M15 5L5 15", () => (closeSearchPanel(view), view.focus())),
      ),
      this.replacing,
    );
    this.field.addEventListener("input", () => this.commit());
    this.other.addEventListener("input", () => this.commit(false));
    this.dom.addEventListener("keydown", (event) => this.onKey(event));
  }

  mount(): void {
    this.field.select();
    this.recount();
  }

  update({ docChanged, selectionSet, transactions }: ViewUpdate): void {
    const asked = transactions.some((transaction) => transaction.effects.some((effect) => effect.is(setSearchQuery)));
    if (docChanged || selectionSet || asked) this.timer ||= window.setTimeout(() => this.recount(), COUNT_MS);
  }

  destroy(): void {
    clearTimeout(this.timer);
  }

  private commit(jump = true): void {
    const { view } = this;
    const on = (name: "caseSensitive" | "wholeWord" | "regexp"): boolean => this.toggles[name].getAttribute("aria-pressed") === "true";
    const query = new SearchQuery({
      search: this.field.value,
      replace: this.other.value,
      caseSensitive: on("caseSensitive"),
      wholeWord: on("wholeWord"),
      regexp: on("regexp"),
      literal: !on("regexp"),
    });
    if (!query.eq(getSearchQuery(view.state))) view.dispatch({ effects: setSearchQuery.of(query) });
    if (!jump || !query.valid) return;
    // The first from where one is, without leaving the field.
    const { from } = view.state.selection.main;
    let found = query.getCursor(view.state, from).next();
    if (found.done) found = query.getCursor(view.state).next();
    if (found.done) return;
    const { from: anchor, to: head } = found.value;
    view.dispatch({ selection: { anchor, head }, effects: EditorView.scrollIntoView(anchor, { y: "center" }) });
  }

  private recount(): void {
    clearTimeout(this.timer);
    this.timer = 0;
    const query = getSearchQuery(this.view.state);
    const wrong = query.search !== "" && !query.valid;
    const { at, of } = query.valid ? count(this.view.state, query) : { at: 0, of: 0 };
    const said = query.search === "" ? "" : wrong ? t.badExpression : of === 0 ? t.notFound : t.matchPlace(at, of, of > COUNT_LIMIT);
    if (this.place.textContent !== said) this.place.textContent = said;
    this.field.setAttribute("aria-invalid", String(wrong));
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      closeSearchPanel(this.view);
      this.view.focus();
    } else if (event.key === "Enter" && event.target === this.field) {
      this.commit(false);
      (event.shiftKey ? findPrevious : findNext)(this.view);
      this.recount();
    } else if (event.key === "Enter" && event.target === this.other) {
      this.commit(false);
      replaceNext(this.view);
    } else if ((event.key === "F3" || (event.key.toLowerCase() === "g" && (event.ctrlKey || event.metaKey)))) {
      (event.shiftKey ? findPrevious : findNext)(this.view);
    } else if (event.key.toLowerCase() === "f" && (event.ctrlKey || event.metaKey)) this.field.select();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function finding(place: HTMLElement): Extension {
  return [
    search({ createPanel: (view) => new FindPanel(view), top: true }),
    panels({ topContainer: place }),
    Prec.high(
      keymap.of([
        { key: "F3", run: findNext, shift: findPrevious, preventDefault: true },
        { key: "Mod-g", run: findNext, shift: findPrevious, preventDefault: true },
      ]),
    ),
  ];
}

const added = new WeakSet<EditorView>();

/** Opens the panel, in `place`. */
export function open(view: EditorView, place: HTMLElement): void {
  if (!added.has(view)) view.dispatch({ effects: StateEffect.appendConfig.of(finding(place)) });
  added.add(view);
  openSearchPanel(view);
}
