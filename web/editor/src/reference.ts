/**
 * The REST interface, to read and to try: a page of its own, so that nobody else loads Swagger UI. That comes
 * as its authors built it; to bundle it again takes long and changes nothing.
 */

import source from "swagger-ui-dist/swagger-ui-bundle.js?url";
import licences from "swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt?url";
import { h } from "./element";
import "./reference.css";
import { t } from "./strings";

declare const SwaggerUIBundle: (options: Record<string, unknown>) => unknown;

const dark = matchMedia("(prefers-color-scheme: dark)");
const adapt = (): boolean => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", adapt);
adapt();

const domNode = h("main");
const show = (): unknown =>
  SwaggerUIBundle({ url: "/api/openapi.json", domNode, deepLinking: true, defaultModelsExpandDepth: -1 });
document.head.append(h("script", { src: source, onload: show }));
document.body.append(
  h("header", {}, h("a", { href: "/" }, t.home)),
  domNode,
  h("footer", {}, h("a", { href: licences }, t.swaggerLicences)),
);
