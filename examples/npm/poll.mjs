// Reads a bot's events, for bots without a public address: npm install @mathub/webhooks, then node poll.mjs
// MATHUB_API says where the API is (http://127.0.0.1:8080), MATHUB_BOT_KEY is the bot's key. The file keeps the cursor.
import { poll } from "@mathub/webhooks";
import { readFile, rename, writeFile } from "node:fs/promises";

const { MATHUB_API: url = "http://127.0.0.1:8080", MATHUB_BOT_KEY: key = "", CURSOR_FILE = "cursor" } = process.env;

const after = await readFile(CURSOR_FILE, "utf8").catch((error) => {
  if (error.code !== "ENOENT") throw error; // to begin with the latest would miss events
  return "latest";
});
for await (const { events, cursor } of poll({ url, key, after })) {
  for (const event of events) console.log(event.id, event.event, JSON.stringify(event.data));
  await writeFile(CURSOR_FILE + ".new", cursor); // after the work: each event is then read at least once
  await rename(CURSOR_FILE + ".new", CURSOR_FILE); // whole, also after a crash
}
