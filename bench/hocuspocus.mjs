// Hocuspocus as its documentation starts it: every default kept, the SQLite extension on a file, and a hook
// that checks the same tokens as Collab does.
import { SQLite } from "@hocuspocus/extension-sqlite";
import { Server } from "@hocuspocus/server";
import { jwtVerify } from "jose";

const [port, database] = process.argv.slice(2);
const secret = new TextEncoder().encode(process.env.COLLAB_SECRET);
const checks = { algorithms: ["HS256"], audience: process.env.COLLAB_AUDIENCE, requiredClaims: ["sub", "exp"] };

await new Server({
  address: "127.0.0.1",
  port: Number(port),
  quiet: true,
  extensions: [new SQLite({ database })],
  async onAuthenticate({ token, documentName, connectionConfig }) {
    const { payload } = await jwtVerify(token, secret, checks);
    const role = payload.documents?.[documentName] ?? payload.documents?.["*"];
    if (!role) throw new Error(`no right to open ${documentName}`);
    connectionConfig.readOnly = role !== "editor";
    return { user: { id: payload.sub, name: payload.name } };
  },
}).listen();
