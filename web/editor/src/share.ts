/** Who may do what with the document: its people, and links that let in whoever is given them. */

import { address, Refused, type Role } from "./api";
import { Authors } from "./authors";
import { modal } from "./dialog";
import { h, icon } from "./element";
import { comesWithHistory, Grants, type Link, type Member } from "./grants";
import { actor, avatar, me, personOf } from "./person";
import type { Replica } from "./replica";
import "./share.css";
import { t } from "./strings";

const s = t.sharing;
const REMOVE = "M5 5l10 10M15 5L5 15";
const CHEVRON = "M6 8l4 4 4-4";
// "commenter" is the same as "viewer" until there are comments; who has it keeps it.
const OFFERED: Role[] = ["viewer", "editor", "owner"];
const LASTS = ["never", "day", "week", "month", "date"] as const;
const DAYS = { day: 1, week: 7, month: 30 };
const DAY_MS = 86_400_000;
const NAMES_SHOWN = 3;
const COPIED_MS = 2_000;

export interface Opened {
  /** What we may do has changed, or may have. */
  update(): void;
  close(): void;
}

export function open(replica: Replica, closed: () => void): Opened {
  const body = h("div", {});
  let shown: Role | null = null;
  const update = (): void => {
    if (replica.role === shown || replica.role === null) return;
    shown = replica.role;
    body.replaceChildren(...(shown === "owner" ? ownersView(replica) : othersView(replica, shown)));
  };
  update();
  const dialog = modal("sharing", s.title(replica.title || t.untitled), body, closed);
  return { update, close: () => dialog.close() };
}

function ownersView(replica: Replica): HTMLElement[] {
  const grants = new Grants(replica.name);
  const authors = authorsOf(replica);
  const links = new Links(grants, authors);
  const people = new People(grants, authors, replica, (email) => links.offer(email));
  void people.load().then(() => links.load());
  return [people.element, links.element, addressPart(replica)];
}

/** For who may not change it: what is theirs, who is here, and where it is. */
function othersView(replica: Replica, role: Role): HTMLElement[] {
  const authors = authorsOf(replica);
  const here = hereOf(replica).map((person) => authors.chip({ id: person.name, name: person.name, kind: "user" }));
  const faces = h("p", { class: "authors" }, h("span", { class: "soft" }, `${t.people}: `), ...here);
  return [h("p", { class: "mine" }, h("b", {}, s.mine[role]), " ", s.others), ...(here.length > 0 ? [faces] : []), addressPart(replica)];
}

const hereOf = ({ awareness }: Replica) =>
  [...awareness.getStates()].filter(([client]) => client !== awareness.clientID).map(([client, { user }]) => personOf(user, client));

const authorsOf = (replica: Replica): Authors => new Authors(() => hereOf(replica));

const saying = (error: unknown): string => (error instanceof Refused ? t.sentence(error.message) : t.unreachable);

/** Where mistakes and results are said: beside what they are about, and read aloud. */
class Word {
  readonly element = h("div", { class: "word", role: "status" });

  say(...words: (Node | string)[]): void {
    this.element.dataset.kind = "said";
    this.element.replaceChildren(h("p", {}, ...words));
  }

  complain(error: unknown, ...ways: (Node | string)[]): void {
    this.element.dataset.kind = "wrong";
    this.element.replaceChildren(h("p", {}, typeof error === "string" ? error : saying(error), " ", ...ways));
  }

  clear(): void {
    this.element.replaceChildren();
  }
}

class People {
  readonly element: HTMLElement;
  private readonly list = h("ul", { class: "grants" });
  private readonly note = h("div", {});
  private readonly word = new Word();
  private members: Member[] = [];
  /** Taken away while this is open: they stay in their place, so that it can be taken back. */
  private readonly removed = new Map<string, Member>();
  /** What somebody without a name was added by. */
  private readonly emails = new Map<string, string>();
  private asking: string | null = null;
  private turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly grants: Grants,
    private readonly authors: Authors,
    private readonly replica: Replica,
    private readonly offerLink: (email: string) => void,
  ) {
    this.element = h("section", { "aria-label": s.people }, this.form(), this.word.element, this.note, this.list);
  }

  async load(): Promise<void> {
    try {
      let answer;
      try {
        answer = await this.grants.members();
      } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) throw error;
        // Nobody has made it, and what does not exist cannot be shared.
        await this.replica.make();
        answer = await this.grants.members();
      }
      this.members = answer.members;
      const { guests, users } = answer;
      this.note.replaceChildren(
        ...(guests ? [everybodys(s.everybody, guests)] : []),
        ...(users && users !== guests ? [everybodys(s.everybodySignedIn, users)] : []),
      );
      this.draw();
    } catch (error) {
      const again = h("button", { class: "quiet", onclick: () => (this.word.clear(), void this.load()) }, t.tryAgain);
      this.word.complain(error, again);
    }
  }

  private form(): HTMLElement {
    // On a phone it would bring its keyboard along.
    const who = h("input", { type: "text", autofocus: matchMedia("(pointer: fine)").matches, inputmode: "email", autocomplete: "off", autocapitalize: "off", spellcheck: "false", "aria-label": s.who, placeholder: s.whoHint, maxlength: 300 });
    const role = roleChoice("editor", OFFERED, s.role);
    const hint = h("p", { class: "hint", id: "role-means" }, s.means.editor);
    role.select.setAttribute("aria-describedby", "role-means");
    role.select.addEventListener("change", () => (hint.textContent = s.means[role.select.value as Role]));
    const button = h("button", { class: "primary" }, s.add);
    const send = async (): Promise<void> => {
      const person = who.value.trim();
      if (!person) return who.focus();
      const isEmail = person.includes("@") && !person.includes(":");
      if (!isEmail && !/^(user|agent|account|guest):./.test(person)) {
        this.word.complain(s.noAddress);
        return who.focus();
      }
      button.disabled = true;
      try {
        const chosen = role.select.value as Role;
        const before = new Set(this.members.map((member) => member.person));
        await this.grants.set(person, chosen, null);
        const { members } = await this.grants.members();
        const added = members.find((member) => !before.has(member.person)) ?? members.find((member) => member.person === person);
        if (added && isEmail) this.emails.set(added.person, person);
        if (added) this.removed.delete(added.person);
        this.members = members;
        this.draw();
        who.value = "";
        this.word.say(s.added(added ? this.nameOf(added) : person, s.roles[chosen]));
      } catch (error) {
        const stranger = isEmail && error instanceof Refused && error.code === "no-such-grant";
        const link = h("button", { class: "quiet", type: "button", onclick: () => (this.word.clear(), (who.value = ""), this.offerLink(person)) }, s.linkInstead);
        this.word.complain(error, ...(stranger ? [link] : []));
      } finally {
        button.disabled = false;
        if (who.isConnected && matchMedia("(pointer: fine)").matches && document.activeElement === document.body) who.focus();
      }
    };
    return h("form", { class: "add", onsubmit: (event: Event) => (event.preventDefault(), void send()) }, who, role.element, button, hint);
  }

  private nameOf({ person, name }: Member): string {
    const known = name || this.emails.get(person);
    if (known) return known;
    if (person === actor()) return me().name;
    if (person.startsWith("guest:")) return s.guest;
    return person.replace(/^(user|agent):/, "");
  }

  private draw(): void {
    const key = this.list.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset.key : undefined;
    const there = new Set(this.members.map((member) => member.person));
    const gone = [...this.removed.values()].filter((member) => !there.has(member.person));
    this.list.replaceChildren(...this.members.map((member) => this.row(member)), ...gone.map((member) => this.goneRow(member)));
    if (key !== undefined) this.list.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  }

  private row(member: Member): HTMLElement {
    const { person, role } = member;
    const name = this.nameOf(member);
    const mine = person === actor();
    const word = new Word();
    const only = role === "owner" && this.members.filter((other) => other.role === "owner").length === 1;
    const choice = roleChoice(role, role === "commenter" ? ["viewer", "commenter", "editor", "owner"] : OFFERED, s.roleOf(name));
    choice.select.dataset.key = `role ${person}`;
    choice.select.disabled = only;
    choice.select.addEventListener("change", () => {
      const wanted = choice.select.value as Role;
      const set = (): Promise<void> => this.change(() => this.grants.set(person, wanted, this.now(member).history), s.added(name, s.roles[wanted]));
      if (mine && wanted !== "owner") this.ask(member, word, s.stepBack, set);
      else void set();
    });
    const remove = h("button", { class: "tool", type: "button", "aria-label": s.remove(name), title: s.remove(name), "data-key": `remove ${person}` }, icon(REMOVE));
    remove.addEventListener("click", () => {
      const go = async (): Promise<void> => {
        this.removed.set(person, member);
        await this.change(() => this.grants.remove(person), s.removed(name));
        this.list.querySelector<HTMLElement>(`[data-key="${CSS.escape(`back ${person}`)}"]`)?.focus();
      };
      if (mine) this.ask(member, word, s.leave, go);
      else void go();
    });
    return h(
      "li",
      {},
      h("div", { class: "grant" }, this.face(member, name), h("span", { class: "name", dir: "auto", title: person }, name, mine ? h("i", {}, ` ${s.you}`) : null), this.historyBox(member, name), choice.element, only ? h("span", { class: "tool" }) : remove),
      only ? h("p", { class: "hint" }, s.onlyOwner) : null,
      word.element,
    );
  }

  private face(member: Member, name: string): HTMLElement {
    const person = this.authors.person({ id: member.person, name, kind: "user" });
    return avatar({ ...person, name });
  }

  private historyBox(member: Member, name: string): HTMLElement {
    if (member.role === "owner") return h("span", {}); // who shares it sees all of it
    const usual = comesWithHistory(member.role);
    const box = h("input", { type: "checkbox", checked: member.history ?? usual, "aria-label": s.historyOf(name), "data-key": `history ${member.person}` });
    box.addEventListener("change", () => {
      const { checked } = box;
      const set = (): Promise<void> => {
        const { role } = this.now(member);
        return this.grants.set(member.person, role, checked === comesWithHistory(role) ? null : checked);
      };
      void this.change(set, "");
    });
    return h("label", { class: "only", title: s.historyOf(name) }, box, s.history);
  }

  /** In the place of somebody who was removed a moment ago. */
  private goneRow(member: Member): HTMLElement {
    const { person, role, history } = member;
    const undo = async (): Promise<void> => {
      await this.change(() => this.grants.set(person, role, history), s.added(this.nameOf(member), s.roles[role]));
      this.list.querySelector<HTMLElement>(`[data-key="${CSS.escape(`role ${person}`)}"]`)?.focus();
    };
    const back = h("button", { class: "quiet", type: "button", "data-key": `back ${person}`, onclick: () => void undo() }, t.undo);
    return h("li", { class: "gone" }, h("div", { class: "grant" }, this.face(member, this.nameOf(member)), h("span", { class: "name" }, s.removed(this.nameOf(member))), back));
  }

  /** Asks in the place of the row before we do something to ourselves. */
  private ask(member: Member, word: Word, question: string, go: () => Promise<void>): void {
    const give = h("button", { class: "quiet", type: "button", onclick: () => void go() }, s.goOn);
    const stay = h("button", { class: "quiet", type: "button", onclick: () => this.draw() }, t.cancel);
    word.complain(question, give, " ", stay);
    give.focus();
    this.asking = member.person;
  }

  /** As they are when it is their turn: a role and the history are told the server together. */
  private now(member: Member): Member {
    return this.members.find(({ person }) => person === member.person) ?? member;
  }

  /** One after another: the next one begins with what the server says after the one before. */
  private change(work: () => Promise<void>, said: string): Promise<void> {
    return (this.turn = this.turn.then(() => this.changeNow(work, said)));
  }

  private async changeNow(work: () => Promise<void>, said: string): Promise<void> {
    try {
      await work();
      if (this.asking !== null) {
        // What we took from ourselves may be the right to see who else is here.
        this.asking = null;
        await this.replica.look();
        if (this.replica.role !== "owner") return;
      }
      this.members = (await this.grants.members()).members;
      this.draw();
      if (said) this.word.say(said);
      else this.word.clear();
    } catch (error) {
      this.draw();
      this.word.complain(error);
    }
  }
}

/** What no role here takes away. */
const everybodys = (who: string, role: Role): HTMLElement => h("p", { class: "for-all" }, h("b", {}, who, " ", s.everybodyRoles[role]), " ", s.byServer);

class Links {
  readonly element: HTMLElement;
  private readonly list = h("ul", { class: "grants" });
  private readonly word = new Word();
  private readonly place = h("div", {});
  private readonly button = h("button", { class: "secondary", type: "button", onclick: () => this.ask("") }, s.newLink);
  private links: Link[] = [];
  /** The addresses of those that were made while this is open: nobody will say them again. */
  private readonly made = new Map<string, string>();

  constructor(
    private readonly grants: Grants,
    private readonly authors: Authors,
  ) {
    const head = h("header", {}, h("h3", {}, s.links), this.button);
    this.element = h("section", { "aria-label": s.links }, head, h("p", { class: "hint" }, s.linksHint), this.place, this.word.element, this.list);
  }

  async load(): Promise<void> {
    try {
      this.links = await this.grants.links();
      this.draw();
    } catch (error) {
      const again = h("button", { class: "quiet", onclick: () => (this.word.clear(), void this.load()) }, t.tryAgain);
      this.word.complain(error, again);
    }
  }

  /** A link for somebody who cannot be a member. */
  offer(label: string): void {
    this.ask(label);
  }

  private ask(label: string): void {
    const role = roleChoice("viewer", ["viewer", "editor"], s.gives);
    const lasts = choiceOf(LASTS.map((key) => [key, s.last[key]]), "never", s.lasts);
    const day = h("input", { type: "date", "aria-label": s.lastDay, min: isoDay(Date.now()), hidden: true });
    const history = h("input", { type: "checkbox", checked: false });
    const password = h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 200, placeholder: s.optional });
    const forWhom = h("input", { type: "text", autocomplete: "off", maxlength: 200, placeholder: s.optional, value: label });
    const make = h("button", { class: "primary" }, s.makeLink);
    role.select.addEventListener("change", () => (history.checked = comesWithHistory(role.select.value as Role)));
    lasts.select.addEventListener("change", () => {
      day.hidden = lasts.select.value !== "date";
      if (!day.hidden) day.focus();
    });
    const close = (): void => {
      this.place.replaceChildren();
      this.button.hidden = false;
    };
    const cancel = (): void => (close(), this.button.focus());
    const send = async (): Promise<void> => {
      const ends = endOf(lasts.select.value as (typeof LASTS)[number], day.value);
      if (ends !== null && !(ends > Date.now())) {
        this.word.complain(s.noDay);
        return day.focus();
      }
      make.disabled = true;
      try {
        const chosen = role.select.value as Role;
        const made = await this.grants.link({
          role: chosen,
          history: history.checked === comesWithHistory(chosen) ? null : history.checked,
          label: forWhom.value.trim(),
          password: password.value || null,
          expires_at: ends === null ? null : new Date(ends).toISOString(),
        });
        if (made.url) this.made.set(made.id, made.url);
        close();
        this.links = await this.grants.links();
        this.draw();
        this.word.say(s.made);
        this.list.querySelector<HTMLElement>(`[data-key="copy ${made.id}"]`)?.focus();
      } catch (error) {
        make.disabled = false;
        this.word.complain(error);
      }
    };
    const field = (name: string, ...content: (Node | string)[]): HTMLElement => h("label", { class: "named" }, h("span", {}, name), ...content);
    const form = h(
      "form",
      {
        class: "new-link",
        onsubmit: (event: Event) => (event.preventDefault(), void send()),
        onkeydown: (event: KeyboardEvent) => event.key === "Escape" && (event.preventDefault(), event.stopPropagation(), cancel()),
      },
      field(s.gives, role.element),
      field(s.lasts, lasts.element, day),
      field(s.linkPassword, password),
      field(s.label, forWhom),
      h("label", { class: "only" }, history, s.linkHistory),
      h("div", { class: "ways" }, make, h("button", { class: "quiet", type: "button", onclick: cancel }, t.cancel)),
    );
    this.word.clear();
    this.button.hidden = true;
    this.place.replaceChildren(form);
    role.select.focus();
    form.scrollIntoView({ block: "nearest" });
  }

  private draw(): void {
    this.list.replaceChildren(...this.links.map((link) => this.row(link)));
  }

  private row(link: Link): HTMLElement {
    const { id, role, expires_at: ends } = link;
    const title = link.label || s.linkTo[role];
    const over = ends !== null && new Date(ends).getTime() <= Date.now();
    const history = link.history !== null && link.history !== comesWithHistory(role);
    const about = [
      ...(link.label ? [s.roles[role]] : []),
      ...(ends === null ? [] : [(over ? s.ended : s.until)(t.moment(new Date(ends)))]),
      ...(link.password ? [s.withPassword] : []),
      ...(history ? [link.history ? s.withHistory : s.withoutHistory] : []),
      link.opened === 0 ? s.nobodyCame : s.came(link.opened, this.names(link)),
    ];
    const ask = h("button", { class: "quiet", type: "button", "aria-label": s.revokeSaid(title) }, s.revoke);
    const word = h("div", { class: "word" });
    ask.addEventListener("click", () => {
      const go = h("button", { class: "quiet", type: "button", onclick: () => void this.revoke(id) }, s.revoke);
      const stay = h("button", { class: "quiet", type: "button", onclick: () => (word.replaceChildren(), ask.focus()) }, t.cancel);
      if (link.opened === 0 || over) return void this.revoke(id);
      word.dataset.kind = "wrong";
      word.replaceChildren(h("p", {}, s.revokeAsk, " ", go, " ", stay));
      go.focus();
    });
    const url = this.made.get(id);
    return h(
      "li",
      { class: over ? "over" : "" },
      h("div", { class: "grant" }, h("div", { class: "name" }, title, h("p", { class: "hint" }, about.join(" · "))), ask),
      ...(url ? [copyRow(url, s.linkAddress, id), h("p", { class: "hint" }, s.once)] : []),
      word,
    );
  }

  /** The latest who have a name. */
  private names({ arrivals }: Link): string[] {
    const named = arrivals.filter(({ name }) => name).slice(0, NAMES_SHOWN);
    return named.map(({ person, name }) => this.authors.person({ id: person, name, kind: "user" }).name);
  }

  private async revoke(id: string): Promise<void> {
    try {
      await this.grants.revoke(id);
      this.made.delete(id);
      this.links = await this.grants.links();
      this.draw();
      this.word.say(s.revoked);
      this.button.focus();
    } catch (error) {
      this.word.complain(error);
    }
  }
}

function addressPart({ name }: Replica): HTMLElement {
  return h("section", { "aria-label": s.address }, h("h3", {}, s.address), copyRow(`${location.origin}${address(name)}`, s.address, "address"));
}

/** An address, and a way to take it along where browsers give out the clipboard and where they do not. */
function copyRow(text: string, label: string, key: string): HTMLElement {
  const field = h("input", { type: "text", readonly: true, value: text, "aria-label": label, onfocus: () => field.select() });
  const said = h("span", { class: "hidden", role: "status" });
  let rest = 0;
  const done = (words: string): void => {
    button.textContent = words === s.copied ? words : s.copy;
    said.textContent = words;
    said.classList.toggle("hidden", words === s.copied);
    clearTimeout(rest);
    rest = window.setTimeout(() => (button.textContent = s.copy), COPIED_MS);
  };
  const byHand = (): void => {
    field.focus();
    field.select();
    // Over plain HTTP there is no other clipboard than this old one.
    done(document.execCommand("copy") ? s.copied : s.byHand);
  };
  const button = h("button", { class: "secondary", type: "button", "data-key": `copy ${key}` }, s.copy);
  button.addEventListener("click", () => {
    if (!("clipboard" in navigator)) byHand();
    else navigator.clipboard.writeText(text).then(() => done(s.copied), byHand);
  });
  return h("div", { class: "copy" }, field, button, said);
}

interface Choice {
  element: HTMLElement;
  select: HTMLSelectElement;
}

function choiceOf(options: (readonly [string, string])[], chosen: string, label: string): Choice {
  const select = h("select", { "aria-label": label }, ...options.map(([value, said]) => h("option", { value, selected: value === chosen }, said)));
  return { select, element: h("span", { class: "choice" }, select, icon(CHEVRON)) };
}

const roleChoice = (role: Role, roles: Role[], label: string): Choice => choiceOf(roles.map((each) => [each, s.roles[each]]), role, label);

/** When a link ends, in milliseconds since the epoch: at the end of a day that was chosen. */
function endOf(lasts: (typeof LASTS)[number], day: string): number | null {
  if (lasts === "never") return null;
  if (lasts !== "date") return Date.now() + DAYS[lasts] * DAY_MS;
  return new Date(`${day}T23:59:59`).getTime();
}

function isoDay(when: number): string {
  const date = new Date(when);
  return new Date(when - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}
