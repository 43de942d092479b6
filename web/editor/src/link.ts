/** Where links and images of a text may lead: what strangers wrote is checked before it is followed or drawn. */

const PROTOCOLS = ["http:", "https:", "mailto:"];
const IMAGES = "/api/";

/** The address that a link leads to, or null if it leads nowhere that is safe. */
export function target(written: string): string | null {
  const plain = written.replace(/^<|>$/g, "").replace(/\\([!-/:-@[-`{-~])/g, "$1");
  const mail = /^[^\s@/:]+@[^\s@/]+\.[^\s@/]+$/.test(plain);
  const web = /^www\./i.test(plain);
  try {
    const url = new URL(mail ? `mailto:${plain}` : web ? `https://${plain}` : plain, location.href);
    return PROTOCOLS.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** The address of an image that is drawn: one that this server keeps. The page's policy allows no other. */
export function source(written: string): string | null {
  const href = target(written);
  if (href === null) return null;
  const url = new URL(href);
  return url.origin === location.origin && url.pathname.startsWith(IMAGES) ? url.href : null;
}

export function follow(href: string): void {
  window.open(href, "_blank", "noopener");
}

/** Attributes of an element that leads there. */
export function anchor(href: string): Record<string, string> {
  return { href, target: "_blank", rel: "noopener" };
}
