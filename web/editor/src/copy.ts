/** What the server will not take, brought to safety: as a document of its own, or as a file. */

import { address, api, Refused } from "./api";
import { h, toast } from "./element";
import { IMAGE_PATIENCE_MS, isOfTheFile, put } from "./images";
import { Replica } from "./replica";
import { t } from "./strings";
import { pathOf, stopWaiting, waiting, waitingFile } from "./waiting";

// A server that has not confirmed a whole text by now may never do so; nothing is let go before it has.
const PATIENCE_MS = 20_000;

/** Makes a document with this text, and goes there. What `replica` kept on this device is let go after that. */
export async function saveAsNew(replica: Replica, text: string): Promise<void> {
  const { name } = await api.create({ title: t.keep.copyOf(replica.title || t.untitled) });
  try {
    await bringImages(replica.name, name, text);
  } catch (error) {
    await api.remove(name).catch((left: unknown) => console.info("an empty document is left:", left));
    throw error;
  }
  const copy = new Replica(name);
  await copy.opened;
  copy.text.insert(0, text);
  await new Promise<void>((resolve, reject) => {
    setTimeout(() => reject(new Error(t.keep.slow)), PATIENCE_MS);
    copy.watch(() => copy.status.kind === "saved" && resolve());
  });
  await replica.letGo();
  await stopWaiting(await waiting(replica.name));
  location.assign(address(name));
}

/** Takes along the images in the text: those that wait on this device, and those that we may still see. */
async function bringImages(from: string, to: string, text: string): Promise<void> {
  const hashes = new Set([...text.matchAll(/\/api\/documents\/[^/\s]+\/images\/([0-9a-f]{64})/g)].map((match) => match[1] ?? ""));
  const kept = await waiting(from);
  for (const hash of hashes) {
    const path = `${pathOf(from)}/${hash}`;
    const file = kept.includes(path) ? (await waitingFile(path))?.file : await seen(path);
    if (!file) continue;
    try {
      await put(to, file, AbortSignal.timeout(IMAGE_PATIENCE_MS));
    } catch (error) {
      // The text is worth more than a picture that no server would take.
      if (!(error instanceof Refused && isOfTheFile(error))) throw error;
      toast(t.images.refused(hash.slice(0, 8), error.message));
    }
  }
}

/** What is at this path, as far as we may see it. */
async function seen(path: string): Promise<Blob | null> {
  const answer = await fetch(path).catch(() => null);
  return answer?.ok ? answer.blob() : null;
}

export function saveButton(replica: Replica, text: () => string): HTMLElement {
  const button = h("button", { class: "quiet" }, t.keep.saveAsNew);
  const run = async (): Promise<void> => {
    button.disabled = true;
    button.textContent = t.keep.saving;
    try {
      await saveAsNew(replica, text());
    } catch (error) {
      button.disabled = false;
      button.textContent = t.keep.saveAsNew;
      if (error instanceof Refused) toast(t.failed(error.message));
      else toast(error instanceof TypeError ? t.unreachable : (error as Error).message);
    }
  };
  button.addEventListener("click", () => void run());
  return button;
}

/** A file of the text as it is on the screen, also with no server. */
export function downloadButton(title: () => string, text: () => string): HTMLElement {
  return h(
    "button",
    {
      class: "quiet",
      onclick: () => {
        const url = URL.createObjectURL(new Blob([text()], { type: "text/markdown;charset=utf-8" }));
        // Signs that some file system does not take, and a dot that would hide it.
        const name = title().replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").replace(/^[\s.]+/, "").trim();
        h("a", { href: url, download: `${name || t.untitled}.md` }).click();
        URL.revokeObjectURL(url);
      },
    },
    t.keep.download,
  );
}
