import { defineConfig, type Plugin, type Rolldown } from "vite";
import { basicFonts } from "./fonts.mjs";

/** Writes into sw.js which files make up the page, so that it can be served while the server is away. */
function shell(): Plugin {
  return {
    name: "shell",
    generateBundle(_options, bundle) {
      const worker = bundle["sw.js"];
      if (worker?.type !== "chunk") throw new Error("the service worker was not built");
      const files = new Set<string>();
      const visit = (name: string): void => {
        if (files.has(name)) return;
        files.add(name);
        const chunk = bundle[name] as Rolldown.OutputChunk;
        [...chunk.imports, ...chunk.dynamicImports].forEach(visit);
        chunk.viteMetadata?.importedCss.forEach((file) => files.add(file));
        chunk.viteMetadata?.importedAssets.forEach((file) => file.endsWith(".woff2") || files.add(file));
      };
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === "chunk" && file.isEntry && file.name === "page") visit(name);
        // Fonts for other scripts than Latin are fetched, and then kept, when a text needs them.
        else if (/-(?:basic|latin)-wght-[^/]*\.woff2$/.test(name)) files.add(name);
      }
      worker.code = worker.code.replace("__SHELL__", JSON.stringify([...files].sort().map((name) => `/${name}`)));
    },
  };
}

/** KaTeX brings each font three times; every browser that can show the page reads the smallest. */
function woff2Only(): Plugin {
  return {
    name: "woff2-only",
    enforce: "pre",
    transform: (code, id) =>
      id.includes("katex.min.css") ? code.replace(/,url\([^)]*\.(?:woff|ttf)\) format\("[^"]*"\)/g, "") : null,
  };
}

export default defineConfig({
  plugins: [shell(), woff2Only(), basicFonts()],
  build: {
    target: "es2022",
    // The page's policy allows no data: fonts, and a small file costs nothing over one connection.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "assets/licences.md" },
    rollupOptions: {
      input: { page: "index.html", reference: "reference.html", sw: "worker/sw.ts" },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
        codeSplitting: {
          groups: [
            // What every page needs, in one file.
            { name: "common", test: /\/src\/(api|element|person|strings|icon)\.(ts|svg)/ },
            // Only languages of fenced code need the second; it would take the first with it.
            { name: "tree", test: /node_modules\/@lezer\/common\//, priority: 2 },
            { name: "lr", test: /node_modules\/@lezer\/lr\//, priority: 1 },
          ],
        },
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/ws": { target: "ws://127.0.0.1:8000", ws: true } } },
});
