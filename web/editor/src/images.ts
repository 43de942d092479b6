/**
 * Images that are pasted, dropped or chosen. While one is on its way a mark stands where it will be, outside of
 * the text; the text gets it when the server has it. Without a server the text gets it at once, since its
 * address is what is in it; the file waits on this device, where the page's service worker shows it.
 */

import { Facet, Prec, StateEffect, StateField, type Extension } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, WidgetType, type DecorationSet } from "@codemirror/view";
import { at, Refused } from "./api";
import { announce, h, toast } from "./element";
import "./images.css";
import { putAt } from "./paste";
import type { Replica } from "./replica";
import { t } from "./strings";
import { pathOf, stopWaiting, wait, waiting, waitingFile } from "./waiting";

const s = t.images;
const KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
export const IMAGE_PATIENCE_MS = 120_000;
const AGAIN_MS = 15_000;

class Mark extends WidgetType {
  constructor(
    readonly id: number,
    readonly name: string,
  ) {
    super();
  }
  override eq(other: Mark): boolean {
    return other.id === this.id;
  }
  override toDOM(): HTMLElement {
    return h("span", { class: "uploading" }, h("i", { "aria-hidden": "true" }), s.uploading(this.name));
  }
}

const begun = StateEffect.define<{ at: number; mark: Mark }>();
const ended = StateEffect.define<number>();

const isOf = (decoration: Decoration, id: number): boolean => (decoration.spec as { widget: Mark }).widget.id === id;

const marks = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(value, transaction) {
    let next = value.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (effect.is(begun)) next = next.update({ add: [Decoration.widget({ widget: effect.value.mark, side: 1 }).range(effect.value.at)] });
      else if (effect.is(ended)) next = next.update({ filter: (_from, _to, { spec }) => (spec as { widget: Mark }).widget.id !== effect.value });
    }
    return next;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const takers = Facet.define<Uploads>();

const hasFiles = (data: DataTransfer | null): boolean => data?.types.includes("Files") ?? false;
const imagesIn = (data: DataTransfer | null): File[] => [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));

export function images(replica: Replica): Extension {
  const uploads = new Uploads(replica);
  return [
    marks,
    takers.of(uploads),
    // Before what reads the text of a page: an image that was copied there comes with a link to it, too.
    Prec.high(
      EditorView.domEventHandlers({
        paste(event, view) {
          const files = imagesIn(event.clipboardData);
          // Word brings a picture of what it brings as text.
          if (files.length === 0 || event.clipboardData?.types.includes("text/plain")) return false;
          if (view.state.readOnly) return false;
          view.dispatch(view.state.replaceSelection(""));
          void uploads.take(view, files, view.state.selection.main.head);
          return true;
        },
      }),
    ),
    ViewPlugin.define((view) => {
      const over = (event: DragEvent): void => {
        if (!hasFiles(event.dataTransfer)) return;
        event.preventDefault(); // else the browser leaves the page to show the file
        if (event.dataTransfer) event.dataTransfer.dropEffect = view.state.readOnly ? "none" : "copy";
      };
      const drop = (event: DragEvent): void => {
        if (!hasFiles(event.dataTransfer)) return;
        const files = imagesIn(event.dataTransfer);
        const inside = view.contentDOM.contains(event.target as Node);
        if (files.length === 0 && inside) return; // a text file: CodeMirror reads it
        event.preventDefault();
        event.stopPropagation();
        if (view.state.readOnly || files.length === 0) return;
        void uploads.take(view, files, view.posAtCoords({ x: event.clientX, y: event.clientY }, false));
      };
      uploads.view = view;
      addEventListener("dragover", over);
      addEventListener("drop", drop, true);
      return {
        destroy() {
          removeEventListener("dragover", over);
          removeEventListener("drop", drop, true);
        },
      };
    }),
  ];
}

/** Lets the person choose files, for who does not paste or drop. */
export function choose(view: EditorView): boolean {
  if (view.state.readOnly) return false;
  const input = h("input", { type: "file", accept: KINDS.join(","), multiple: true });
  input.addEventListener("change", () => void view.state.facet(takers)[0]?.take(view, [...(input.files ?? [])], view.state.selection.main.head));
  input.click();
  return true;
}

class Uploads {
  view: EditorView | null = null;
  private ids = 0;
  private takes = false;
  private sending = false;
  private later = 0;
  private away = new AbortController();

  constructor(private readonly replica: Replica) {
    replica.watch(() => {
      const takes = replica.live && replica.writable;
      if (takes === this.takes) return;
      this.takes = takes;
      if (takes) void this.sendWaiting();
      else {
        this.away.abort();
        this.away = new AbortController();
      }
    });
  }

  /** Puts files where `at` is now, one after the other. */
  async take(view: EditorView, files: File[], place: number): Promise<void> {
    const taken = files.map((file) => ({ file, mark: new Mark(++this.ids, nameOf(file)) }));
    view.dispatch({ effects: taken.map(({ mark }) => begun.of({ at: place, mark })) });
    announce(s.uploading(taken.map(({ mark }) => mark.name).join(", ")));
    for (const { file, mark } of taken) {
      try {
        this.insert(view, mark, await this.send(file));
      } catch (error) {
        view.dispatch({ effects: ended.of(mark.id) });
        const why = error instanceof Refused ? error.message : s.notKept;
        toast(s.refused(nameOf(file), why));
      }
    }
  }

  private insert(view: EditorView, mark: Mark, url: string): void {
    let place = -1;
    view.state.field(marks).between(0, view.state.doc.length, (from, _to, decoration) => {
      if (isOf(decoration, mark.id)) place = from;
    });
    if (view.state.readOnly || place < 0) {
      view.dispatch({ effects: ended.of(mark.id) });
      return toast(s.refused(mark.name, t.readOnlyStatus));
    }
    putAt(view, place, `![${altOf(mark.name)}](${url})`, [ended.of(mark.id)]);
    announce(s.uploaded(mark.name));
  }

  /** Its address, once the server has it or this device keeps it. */
  private async send(file: File): Promise<string> {
    if (this.replica.live) {
      try {
        return await this.upload(file);
      } catch (error) {
        if (error instanceof Refused && !error.passing) throw error;
      }
    }
    return this.keep(file);
  }

  private async upload(file: Blob): Promise<string> {
    const ask = (): Promise<string> => put(this.replica.name, file, AbortSignal.any([this.away.signal, AbortSignal.timeout(IMAGE_PATIENCE_MS)]));
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Refused && error.code === "document-not-found" && this.replica.role === "owner")) throw error;
      await this.replica.make(); // nobody has made it yet
      return ask();
    }
  }

  private async keep(file: File): Promise<string> {
    if (!KINDS.includes(file.type)) throw new Refused(415, "unsupported-image", s.kinds);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    const url = `${pathOf(this.replica.name)}/${[...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    await wait(url, file, nameOf(file));
    this.sendLater(); // the line may be up by now, or never have been down
    return url;
  }

  private sendLater(): void {
    clearTimeout(this.later);
    this.later = window.setTimeout(() => this.takes && void this.sendWaiting(), AGAIN_MS);
  }

  /** What was kept while the server was away. */
  private async sendWaiting(): Promise<void> {
    if (this.sending) return this.sendLater();
    clearTimeout(this.later);
    this.sending = true;
    try {
      for (const path of await waiting(this.replica.name)) {
        const kept = await waitingFile(path);
        if (!kept) continue; // another tab was faster
        try {
          await this.upload(kept.file);
        } catch (error) {
          if (!(error instanceof Refused) || error.passing) return this.sendLater();
          toast(s.refused(kept.name, error.message));
          if (!isOfTheFile(error)) {
            if (error.status === 413) continue; // until there is room
            return; // until we may
          }
        }
        await stopWaiting([path]);
        this.showAgain(path);
      }
    } catch (error) {
      console.info("images that wait on this device cannot be read:", error);
    } finally {
      this.sending = false;
    }
  }

  private showAgain(path: string): void {
    for (const image of this.view?.dom.querySelectorAll("img") ?? []) if (image.src.endsWith(path)) image.src = image.getAttribute("src") ?? "";
  }
}

/** Whether the server would not take the file from anybody, into any document. */
export const isOfTheFile = ({ status, code }: Refused): boolean => status === 415 || code === "too-large";

export async function put(document: string, file: Blob, signal: AbortSignal): Promise<string> {
  const answer = await fetch(`/api${at(document)}/images`, { method: "POST", body: file, signal }).catch((cause: unknown) => {
    throw new TypeError("no answer", { cause });
  });
  const body = (await answer.json().catch(() => ({}))) as { url?: string; code?: string; detail?: string };
  if (!answer.ok) throw new Refused(answer.status, body.code ?? "unknown", body.detail ?? answer.statusText);
  return body.url ?? "";
}

/** What a picture from the clipboard is called is nobody's word for it. */
const nameOf = (file: File): string => (file.name && file.name !== "image.png" ? file.name : s.image);

const altOf = (name: string): string => name.replace(/\.\w+$/, "").replace(/[\s\\[\]_*`!<>]+/g, " ").trim() || s.image;
