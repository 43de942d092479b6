/** Who wrote: the people of a history, each in one ink for as long as it is looked at. */

import { h } from "./element";
import { actor as mine, inkFor, me, personOf, type Person } from "./person";
import type { Actor } from "./record";

export class Authors {
  private readonly people = new Map<string, Person>();

  /** `here` are those whose carets are on the page: the log's name is the one they came with. */
  constructor(private readonly here: () => Person[]) {}

  person(actor: Actor): Person {
    let person = this.people.get(actor.id);
    if (!person) {
      const { name } = personOf(actor, 0);
      const here = this.here();
      const known = actor.id === mine() ? me() : here.find((other) => other.name === name);
      const taken = new Set([me(), ...here, ...this.people.values()].map(({ color }) => color));
      person = personOf({ name, color: known?.color ?? inkFor(actor.id, taken) }, 0);
      this.people.set(actor.id, person);
    }
    return person;
  }

  /** By an id that a diff gave, whose actors are known by then. */
  byId(id: string | undefined): Person | null {
    return (id !== undefined && this.people.get(id)) || null;
  }

  /** A name behind a drop of its ink. */
  chip(actor: Actor): HTMLElement {
    const { name, color } = this.person(actor);
    const chip = h("span", { class: "author", dir: "auto" }, name);
    chip.style.setProperty("--ink", color);
    return chip;
  }
}
