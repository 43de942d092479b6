/** Files that become documents: Markdown and text as they are, archives with their history. */

import { address, api, Refused, signInAddress, type Listed } from "./api";
import { announce, h, toast } from "./element";
import { t } from "./strings";

const s = t.importing;
const TEXT = /\.(md|markdown|mdown|txt|text)$/i;
const ARCHIVE = /\.jsonl$/i;
const TEXT_BYTES = 1_000_000;
const ARCHIVE_PATIENCE_MS = 300_000;

/** Lets the person choose files. */
export function choose(done: () => void): void {
  const input = h("input", { type: "file", multiple: true, accept: ".md,.markdown,.txt,.jsonl,text/markdown,text/plain" });
  input.addEventListener("change", () => void importFiles([...(input.files ?? [])], done));
  input.click();
}

/** Makes a document of each, one after the other, and says what became of them. */
export async function importFiles(files: readonly File[], done: () => void): Promise<void> {
  if (files.length === 0) return;
  announce(s.under(files.length));
  if (files.length > 3) toast(s.under(files.length));
  const made: Listed[] = [];
  const failed: string[] = [];
  for (const file of files) {
    try {
      made.push(await importFile(file));
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return location.assign(signInAddress());
      failed.push(s.failed(file.name, error instanceof Refused ? error.message : t.unreachable));
    }
  }
  if (made.length > 0) done();
  const [first] = made;
  const said = made.length === 1 && first ? s.one(first.title || t.untitled) : made.length > 1 ? s.many(made.length) : "";
  const message = [said, ...failed].filter(Boolean).join(" ");
  toast(message, made.length === 1 && first ? { label: t.openIt, run: () => location.assign(address(first.name)) } : undefined);
}

async function importFile(file: File): Promise<Listed> {
  if (ARCHIVE.test(file.name)) return takeArchive(file);
  if (!TEXT.test(file.name) && !file.type.startsWith("text/")) throw new Refused(415, "unsupported", s.unknown);
  if (file.size > TEXT_BYTES) throw new Refused(413, "too-large", s.large);
  const text = textOf(await file.arrayBuffer());
  return api.create({ title: titleOf(text, file.name), text });
}

/** One kind of line end, and nothing that only marks a file as UTF-8. */
function textOf(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/\r\n?/g, "\n").replaceAll("\0", "");
  } catch {
    throw new Refused(415, "not-text", s.notText);
  }
}

/** What its first line is called when that is a heading, else the file's name. */
const titleOf = (text: string, name: string): string =>
  (/^# +(.+?)[ #]*$/.exec(text.split("\n", 1)[0] ?? "")?.[1] ?? name.replace(/\.\w+$/, "")).slice(0, 200);

async function takeArchive(file: File): Promise<Listed> {
  const answer = await fetch("/api/import", {
    method: "POST",
    body: file,
    headers: { "content-type": "application/jsonl" },
    signal: AbortSignal.timeout(ARCHIVE_PATIENCE_MS),
  });
  const body = (await answer.json().catch(() => ({}))) as Listed & { code?: string; detail?: string };
  if (!answer.ok) throw new Refused(answer.status, body.code ?? "unknown", body.detail ?? answer.statusText);
  return body;
}
