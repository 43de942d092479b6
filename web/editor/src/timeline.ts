/** How much was written when and by whom, as bars, and a slider over them that goes to any moment. */

import type { Authors } from "./authors";
import { h } from "./element";
import type { Activity, Bucket } from "./record";
import { t } from "./strings";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
// A little is still something.
const LEAST = 8;
// An arrow key goes this part of the way; with Shift, one entry of the log.
const STRIDE = 1 / 100;

const shape = (name: string, attributes: { [name: string]: string | number }): SVGElement => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
};

/** Time in which nobody wrote takes no room: a bar follows a bar, and a line stands between two days. */
export class Timeline {
  readonly element: HTMLElement;
  private readonly bars = h("div", { class: "bars", "aria-hidden": "true" });
  private readonly input = h("input", { type: "range", min: 0, max: 1, step: "any", "aria-label": t.timeline });
  private buckets: Bucket[] = [];
  private seconds = 1;
  private seq = 0;

  constructor(
    private readonly authors: Authors,
    private readonly moved: (seq: number) => void,
  ) {
    this.element = h("div", { class: "timeline", hidden: true }, this.bars, this.input);
    this.input.addEventListener("input", () => this.go(this.seqAt(Number(this.input.value))));
    this.input.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (way === undefined || event.altKey) return;
      event.preventDefault();
      const stride = Math.max(STRIDE * this.buckets.length, 1e-9) * way;
      const there = event.shiftKey ? this.seq + way : this.seqAt(this.place(this.seq) + stride);
      this.go(there === this.seq ? this.seq + way : there);
    });
  }

  show(activity: Activity): void {
    this.buckets = activity.buckets;
    this.seconds = activity.bucket;
    const count = this.buckets.length;
    this.element.hidden = count === 0;
    this.input.max = String(count);
    this.element.style.setProperty("--count", String(count));
    const most = Math.max(1, ...this.buckets.map((bucket) => bucket.inserted + bucket.deleted));
    const svg = shape("svg", { viewBox: `0 0 ${count} ${HEIGHT}`, preserveAspectRatio: "none" });
    let day = "";
    this.buckets.forEach((bucket, index) => {
      const on = new Date(bucket.start).toDateString();
      if (day && on !== day) svg.append(shape("rect", { class: "midnight", x: index - 0.06, y: 0, width: 0.12, height: HEIGHT }));
      day = on;
      const total = bucket.inserted + bucket.deleted;
      if (total === 0) return;
      // By the root, so that a pasted page does not press a day of typing flat.
      const height = Math.max(LEAST, Math.sqrt(total / most) * HEIGHT);
      let y = HEIGHT;
      for (const share of bucket.actors) {
        const own = ((share.inserted + share.deleted) / total) * height;
        const bar = shape("rect", { x: index + 0.12, y: (y -= own), width: 0.76, height: own });
        bar.style.setProperty("--ink", this.authors.person(share).color);
        svg.append(bar);
      }
    });
    this.bars.replaceChildren(svg);
    this.set(this.seq);
  }

  /** Stands at an entry, and moves nothing else. */
  set(seq: number): void {
    this.seq = seq;
    const place = this.place(seq);
    this.input.value = String(place);
    this.bars.style.setProperty("--place", `${(100 * place) / Math.max(1, this.buckets.length)}%`);
    this.input.setAttribute("aria-valuetext", this.words(seq));
  }

  /** About when the entry came, or null if that is unknown. */
  when(seq: number): Date | null {
    const bucket = this.buckets[this.indexOf(seq)];
    if (!bucket) return null;
    const into = (seq - bucket.seq_from) / Math.max(1, bucket.seq_to - bucket.seq_from);
    return new Date(Date.parse(bucket.start) + into * this.seconds * 1000);
  }

  private go(seq: number): void {
    const last = this.buckets.at(-1)?.seq_to ?? 0;
    const there = Math.min(Math.max(seq, 1), last);
    if (there === this.seq) return this.set(there);
    this.set(there);
    this.moved(there);
  }

  private words(seq: number): string {
    const when = this.when(seq);
    const bucket = this.buckets[this.indexOf(seq)];
    if (!when || !bucket) return "";
    return t.momentSaid(when, bucket.actors.map((share) => this.authors.person(share).name));
  }

  private indexOf(seq: number): number {
    return this.buckets.findIndex((bucket) => bucket.seq_from <= seq && seq <= bucket.seq_to);
  }

  /** In bars from the left; a bar ends with its last entry. */
  private place(seq: number): number {
    const index = this.indexOf(seq);
    const bucket = this.buckets[index];
    if (!bucket) return this.buckets.length;
    return index + (seq - bucket.seq_from + 1) / (bucket.seq_to - bucket.seq_from + 1);
  }

  private seqAt(place: number): number {
    const index = Math.min(Math.max(Math.ceil(place) - 1, 0), this.buckets.length - 1);
    const bucket = this.buckets[index];
    if (!bucket) return 0;
    const entries = bucket.seq_to - bucket.seq_from + 1;
    return Math.max(bucket.seq_from, bucket.seq_from - 1 + Math.round((place - index) * entries));
  }
}
