/** A page for each kind of address; each loads only what it needs. */

import "@fontsource-variable/literata/wght.css";
import "@fontsource-variable/literata/wght-italic.css";
import "@fontsource-variable/instrument-sans/wght.css";
import "./style.css";
import "./media.css";
import { t } from "./strings";

if (location.pathname.startsWith("/d/")) {
  let name = "";
  try {
    name = decodeURIComponent(location.pathname.slice("/d/".length));
  } catch {
    // half of an escape: it names nothing
  }
  if (name) void import("./document").then(({ open }) => open(name));
  else document.body.append(t.badName);
} else if (location.pathname === "/sign-in") {
  void import("./door").then(({ signIn }) => signIn());
} else if (location.pathname === "/join") {
  void import("./door").then(({ join }) => join());
} else if (location.pathname === "/s") {
  void import("./door").then(({ follow }) => follow());
} else if (location.pathname === "/device") {
  void import("./device").then(({ device }) => device());
} else {
  void import("./documents").then(({ list }) => list());
}

if (import.meta.env.PROD && "serviceWorker" in navigator) {
  // Its absence costs reloading without a server, and nothing else.
  navigator.serviceWorker.register("/sw.js").catch((reason: unknown) => console.info("no service worker:", reason));
}
