// A webhook receiver in Express: npm install express @mathub/webhooks, then node receiver.mjs whsec_… [PORT]
// The handler reads the raw body, refuses what is not signed, also what is sent again under another webhook-id or later, and agrees
// to the webhook's deliveries.
import { expressHandler } from "@mathub/webhooks";
import express from "express";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const exit = (message) => (console.error(message), process.exit(1));
if (!secret || secret === "whsec_") exit("usage: node receiver.mjs whsec_… [PORT]");
const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

const app = express();
app.post("/", expressHandler(secret, (event) => {
  if (seen.has(event.id)) return; // the same event may come twice: do the work once
  seen.add(event.id);
  switch (event.event) {
    case "post.created":
      console.log(event.id, event.data.body);
      break;
    default:
      console.log(event.id, event.event, JSON.stringify(event.data));
  }
}));
app.listen(Number(port), "127.0.0.1").on("error", ({ code }) => exit(`port ${port}: ${code}; give another as PORT or as the last argument`));
