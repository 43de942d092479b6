import { defineConfig, type Plugin } from "vite";

/** Writes into sw.js which files make up the page, so that it can be served while the server is away. */
function shell(): Plugin {
  return {
    name: "shell",
    generateBundle(_options, bundle) {
      const worker = bundle["sw.js"];
      if (worker?.type !== "chunk") throw new Error("the service worker was not built");
      // Fonts for other scripts than Latin are fetched, and then kept, when a text needs them.
      const files = Object.keys(bundle).filter(
        (name) => name !== "sw.js" && /\.(js|css|svg)$|-latin-wght-[^/]*\.woff2$/.test(name),
      );
      worker.code = worker.code.replace("__SHELL__", JSON.stringify(files.sort().map((name) => `/${name}`)));
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
      input: { page: "index.html", sw: "worker/sw.ts" },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/ws": { target: "ws://127.0.0.1:8000", ws: true } } },
});
