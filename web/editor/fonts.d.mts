import type { Plugin } from "vite";

export function basicFonts(): Plugin;
