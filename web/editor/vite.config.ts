import { defineConfig, type Plugin, type Rolldown } from "vite";

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
        else if (/-latin-wght-[^/]*\.woff2$/.test(name)) files.add(name);
      }
      worker.code = worker.code.replace("__SHELL__", JSON.stringify([...files].sort().map((name) => `/${name}`)));
    },
  };
}

export default defineConfig({
  plugins: [shell()],
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
        // What every page needs, in one file.
        codeSplitting: { groups: [{ name: "common", test: /\/src\/(api|element|person|strings|icon)\.(ts|svg)/ }] },
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/ws": { target: "ws://127.0.0.1:8000", ws: true } } },
});
