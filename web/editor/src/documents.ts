/** The list of documents: find one, make one, name it, delete it and take that back. */

import { address, api, mayWrite, Refused, signInAddress, type Listed } from "./api";
import { h, icon, toast } from "./element";
import mark from "./icon.svg";
import { account, meet, myself } from "./person";
import { t } from "./strings";

const SEARCH_PAUSE_MS = 200;

// The server chose this name, and nobody wants to read it.
const CHOSEN = /^[\w-]{12}$/;

const called = ({ name, title }: { name: string; title: string | null }): string =>
  title || (CHOSEN.test(name) ? t.untitled : name);
const why = (error: unknown): string => (error instanceof Refused ? t.failed(error.message) : t.unreachable);

export function list(): void {
  const search = h("input", { type: "search", "aria-label": t.search, placeholder: t.search, autocomplete: "off" });
  const rows = h("ul", { class: "rows" });
  const note = h("p", { class: "note", role: "status" });
  const more = h("button", { class: "quiet", hidden: true, onclick: () => void load(true) }, t.more);
  const create = h("button", { class: "primary", onclick: () => void make() }, t.create);
  document.body.className = "listing";
  document.body.append(
    h("header", { class: "bar" }, h("span", { class: "brand" }, h("img", { src: mark, alt: "" }), t.product), h("div", { class: "people" }, ...myself())),
    h(
      "main",
      { class: "page" },
      h("div", { class: "head" }, h("h1", {}, t.documents), create),
      search,
      rows,
      note,
      more,
    ),
  );

  let cursor: string | null = null;
  let asked = 0;
  async function load(further = false): Promise<void> {
    const query = search.value.trim();
    const mine = ++asked;
    try {
      const answer = await api.list(query, further ? cursor : null);
      if (mine !== asked) return; // a later question is under way
      cursor = answer.next;
      const items = answer.documents.map((listed) => row(listed, () => void load()));
      if (further) rows.append(...items);
      else rows.replaceChildren(...items);
      more.hidden = cursor === null;
      note.replaceChildren();
      if (rows.childElementCount === 0) {
        note.append(query ? t.noMatch(query) : h("span", {}, h("b", {}, t.empty), " ", t.emptyHint));
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
      const { remembered } = await import("./local");
      const kept = (await remembered()).filter((document) => called(document).toLowerCase().includes(query.toLowerCase()));
      if (mine !== asked || kept.length === 0) return;
      note.textContent = `${t.unreachable} ${t.onThisDevice}:`;
      rows.replaceChildren(...kept.map((document) => h("li", { class: "row" }, link(document, new Date(document.opened)))));
      more.hidden = true;
    }
  }

  async function make(): Promise<void> {
    create.disabled = true;
    try {
      location.assign(address((await api.create({})).name));
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return location.assign(signInAddress());
      toast(why(error));
      create.disabled = false;
    }
  }

  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = window.setTimeout(() => void load(), SEARCH_PAUSE_MS);
  });
  // Back from a document, its row tells of what was done there.
  addEventListener("pageshow", (event) => event.persisted && void load());
  addEventListener("online", () => void load());
  void load();
}

function link(document: { name: string; title: string | null }, changed: Date): HTMLElement {
  const when = h("time", { datetime: changed.toISOString(), title: changed.toLocaleString() }, t.ago(changed));
  return h("a", { href: address(document.name) }, h("span", { class: "name" }, called(document)), when);
}

function row(listed: Listed, reload: () => void): HTMLElement {
  const item = h("li", { class: "row" });
  const rename = h("button", { class: "tool", "aria-label": t.rename(called(listed)), title: t.renameShort }, icon("M4 16l1-4 8-8 3 3-8 8-4 1zM11 6l3 3"));
  const remove = h("button", { class: "tool", "aria-label": t.remove(called(listed)), title: t.removeShort }, icon("M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6"));
  rename.addEventListener("click", () => edit(item, listed, reload));
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
  const offered = [...(mayWrite(listed.role) ? [rename] : []), ...(listed.role === "owner" ? [remove] : [])];
  item.append(link(listed, new Date(listed.updated_at)), ...offered);
  return item;
}

/** Turns a row into its own form: Enter keeps the new title, Escape or leaving it does not. */
function edit(item: HTMLElement, listed: Listed, reload: () => void): void {
  const kept = [...item.childNodes];
  const field = h("input", { "aria-label": t.newTitle, value: listed.title ?? "", placeholder: called(listed), maxlength: 200 });
  const leave = (): void => {
    if (!form.isConnected) return;
    item.replaceChildren(...kept);
    item.querySelector("button")?.focus();
  };
  const keep = (event: Event): void => {
    event.preventDefault();
    api.rename(listed.name, field.value.trim()).then(reload, (error: unknown) => (toast(why(error)), leave()));
  };
  const form = h("form", { onsubmit: keep }, field);
  field.addEventListener("keydown", (event) => event.key === "Escape" && leave());
  field.addEventListener("blur", leave);
  item.replaceChildren(form);
  field.select();
}
