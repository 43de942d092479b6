/** The list of documents: find one, make one, name it, delete it and take that back. */

import { address, api, mayWrite, Refused, signInAddress, SORTS, type Listed, type Sort } from "./api";
import { h, icon, toast } from "./element";
import mark from "./icon.svg";
import "./documents.css";
import { account, meet, myself } from "./person";
import { t } from "./strings";

const SEARCH_PAUSE_MS = 200;

// The server chose this name, and nobody wants to read it.
const CHOSEN = /^[\w-]{12}$/;

const SORT = "collab.sort";
const RECENT_LIMIT = 5;
const PENCIL = "M4 16l1-4 8-8 3 3-8 8-4 1zM11 6l3 3";
const TWO = "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3";
const BIN = "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6";
const DOTS = "M5 10h.01M10 10h.01M15 10h.01";

const called = ({ name, title }: { name: string; title: string | null }): string =>
  title || (CHOSEN.test(name) ? t.untitled : name);
const why = (error: unknown): string => (error instanceof Refused ? t.failed(error.message) : t.unreachable);

export function list(): void {
  const search = h("input", { type: "search", "aria-label": t.search, placeholder: t.search, autocomplete: "off" });
  const rows = h("ul", { class: "rows" });
  const note = h("p", { class: "note", role: "status" });
  const more = h("button", { class: "quiet", hidden: true, onclick: () => void load(true) }, t.more);
  const create = h("button", { class: "primary", onclick: () => void make() }, t.create);
  const take = h("button", { class: "quiet take", title: t.importing.hint, onclick: () => void files().then(({ choose }) => choose(reload)) }, t.importing.button);
  const sort = h("select", { "aria-label": t.sort, class: "sort" }, ...SORTS.map((order) => h("option", { value: order, selected: order === sorted() }, t.sorts[order])));
  const recent = h("nav", { class: "recent", "aria-label": t.recent, hidden: true });
  document.body.className = "listing";
  document.body.append(
    h("header", { class: "bar" }, h("span", { class: "brand" }, h("img", { src: mark, alt: "" }), t.product), h("div", { class: "people" }, ...myself())),
    h(
      "main",
      { class: "page" },
      h("div", { class: "head" }, h("h1", {}, t.documents), h("div", { class: "begin" }, take, create)),
      h("div", { class: "looking" }, search, sort),
      recent,
      rows,
      note,
      more,
      h("p", { class: "foot" }, h("a", { class: "quiet", href: "/device" }, t.device.link)),
    ),
  );

  let cursor: string | null = null;
  let asked = 0;
  async function load(further = false): Promise<void> {
    const query = search.value.trim();
    const mine = ++asked;
    try {
      const answer = await api.list(query, further ? cursor : null, sort.value as Sort);
      if (mine !== asked) return; // a later question is under way
      if (!further && writing()) return void (owed = true);
      cursor = answer.next;
      const items = answer.documents.map((listed) => row(listed, reload, left));
      if (further) rows.append(...items);
      else rows.replaceChildren(...items);
      more.hidden = cursor === null;
      note.replaceChildren();
      recent.hidden = query !== "" || recent.childElementCount === 0 || rows.childElementCount <= RECENT_LIMIT;
      if (rows.childElementCount === 0) {
        note.append(query ? t.noMatch(query) : h("span", {}, h("b", {}, t.empty), " ", t.emptyHint, " ", t.importing.emptyHint));
        if (query) return;
        await meet();
        if (mine !== asked || account()) return;
        note.append(" ", t.emptyGuest, " ", h("a", { class: "quiet", href: signInAddress() }, t.signIn));
      }
    } catch (error) {
      if (mine !== asked) return;
      note.textContent = why(error);
      if (error instanceof Refused) return;
      // Not in the first load: it brings Yjs along.
      const { rowsOf } = await import("./device");
      const kept = await rowsOf(query);
      if (mine !== asked || kept.length === 0 || writing()) return;
      note.textContent = t.device.these;
      rows.replaceChildren(...kept);
      more.hidden = true;
    }
  }

  // A title that is being written in the list stands; the list is asked for again when it is done with.
  let owed = false;
  const writing = (): boolean => rows.querySelector("form:not([data-sent])") !== null;
  const left = (): void => void (owed && reload());

  function reload(): void {
    owed = false;
    void load();
  }

  /** What this browser opened last: not what was changed last, by whomever. */
  async function remember(): Promise<void> {
    const { kept } = await import("./local");
    const last = (await kept().catch(() => [])).filter(({ opened, role }) => opened > 0 && role !== null).slice(0, RECENT_LIMIT);
    const links = last.map((one) => h("li", {}, h("a", { href: address(one.name) }, called(one))));
    recent.replaceChildren(...(links.length > 0 ? [h("span", {}, t.recent), h("ul", {}, ...links)] : []));
    recent.hidden = links.length === 0 || search.value.trim() !== "" || rows.childElementCount <= RECENT_LIMIT;
  }

  async function make(): Promise<void> {
    create.disabled = true;
    try {
      location.assign(address((await api.create({})).name));
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return location.assign(signInAddress());
      if (!(error instanceof Refused) && navigator.serviceWorker?.controller) {
        // Without a network too: it is made on the server when that is back.
        const { begin } = await import("./local");
        return location.assign(address(await begin()));
      }
      toast(why(error));
      create.disabled = false;
    }
  }

  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = window.setTimeout(() => void load(), SEARCH_PAUSE_MS);
  });
  sort.addEventListener("change", () => {
    localStorage.setItem(SORT, sort.value);
    void load();
  });
  const over = (event: DragEvent): void => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
    document.body.dataset.drop = t.importing.drop;
  };
  const leave = (event: DragEvent): void => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  };
  addEventListener("dragover", over);
  addEventListener("dragleave", leave);
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const dropped = [...event.dataTransfer.files];
    void files().then(({ importFiles }) => importFiles(dropped, reload));
  });
  // Back from a document, its row tells of what was done there.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    create.disabled = false;
    void load();
  });
  addEventListener("online", reload);
  void load().then(remember);
}

const files = () => import("./files");

function sorted(): Sort {
  const kept = localStorage.getItem(SORT);
  return SORTS.find((order) => order === kept) ?? "changed";
}

function link(document: { name: string; title: string | null; snippet?: Listed["snippet"] }, changed: Date): HTMLElement {
  const when = h("time", { datetime: changed.toISOString(), title: changed.toLocaleString() }, t.ago(changed));
  const name = h("span", { class: "name" }, called(document));
  const said = document.snippet ? excerpt(document.snippet) : null;
  return h("a", { href: address(document.name) }, name, when, said);
}

/** Some of the text, with what was looked for marked. */
function excerpt({ text, marks }: NonNullable<Listed["snippet"]>): HTMLElement {
  const letters = [...text];
  const line = h("span", { class: "excerpt" });
  let done = 0;
  for (const [start, stop] of marks) {
    line.append(letters.slice(done, start).join(""), h("mark", {}, letters.slice(start, stop).join("")));
    done = stop;
  }
  line.append(letters.slice(done).join(""));
  return line;
}

function row(listed: Listed, reload: () => void, left: () => void): HTMLElement {
  const item = h("li", { class: "row" });
  const name = called(listed);
  const tool = (label: string, short: string, path: string): HTMLButtonElement =>
    h("button", { class: "tool", "aria-label": label, title: short }, icon(path), h("span", { "aria-hidden": "true" }, short));
  const rename = tool(t.rename(name), t.renameShort, PENCIL);
  const copy = tool(t.copyIt(name), t.copyShort, TWO);
  const remove = tool(t.remove(name), t.removeShort, BIN);
  copy.addEventListener("click", () => {
    copy.disabled = true;
    api.copy(listed.name, t.copyOf(name).slice(0, 200)).then(
      (made) => (reload(), toast(t.copiedAs(called(made)), { label: t.openIt, run: () => location.assign(address(made.name)) })),
      (error: unknown) => {
        if (error instanceof Refused && error.status === 401) return location.assign(signInAddress());
        copy.disabled = false;
        toast(why(error));
      },
    );
  });
  rename.addEventListener("click", () => edit(item, listed, reload, left));
  remove.addEventListener("click", () => {
    remove.disabled = true;
    api.remove(listed.name).then(
      () => {
        reload();
        const restore = (): void => {
          api.restore(listed.name).then(
            () => (reload(), toast(t.undone(called(listed)))),
            (error: unknown) => toast(why(error)),
          );
        };
        toast(t.removed(called(listed)), { label: t.undo, run: restore });
      },
      (error: unknown) => {
        remove.disabled = false;
        toast(why(error));
      },
    );
  });
  const offered = [...(mayWrite(listed.role) ? [rename] : []), copy, ...(listed.role === "owner" ? [remove] : [])];
  const tools = h("div", { class: "tools" }, ...offered);
  // Where there is no room for all of them.
  const open = h("button", { class: "tool dots", "aria-label": t.moreOf(name), title: t.moreShort, "aria-expanded": "false" }, icon(DOTS));
  open.addEventListener("click", () => open.setAttribute("aria-expanded", String(item.classList.toggle("open"))));
  item.append(link(listed, new Date(listed.updated_at)), open, tools);
  return item;
}

/** Turns a row into its own form: Enter keeps the new title, Escape or leaving it does not. */
function edit(item: HTMLElement, listed: Listed, reload: () => void, left: () => void): void {
  const kept = [...item.childNodes];
  const field = h("input", { "aria-label": t.newTitle, value: listed.title ?? "", placeholder: called(listed), maxlength: 200 });
  const leave = (): void => {
    if (!form.isConnected) return;
    item.replaceChildren(...kept);
    item.querySelector<HTMLElement>(".tools button")?.focus();
    left();
  };
  const keep = (event: Event): void => {
    event.preventDefault();
    form.dataset.sent = "";
    api.rename(listed.name, field.value.trim()).then(reload, (error: unknown) => (toast(why(error)), leave()));
  };
  const form = h("form", { onsubmit: keep }, field);
  field.addEventListener("keydown", (event) => event.key === "Escape" && leave());
  field.addEventListener("blur", leave);
  item.replaceChildren(form);
  field.select();
}
