// A receiver that verifies with the Standard Webhooks library: npm ci, then node standard.mjs whsec_… [PORT]
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const exit = (message) => (console.error(message), process.exit(1));
if (!secret || secret === "whsec_") exit("usage: node standard.mjs whsec_… [PORT]");
const webhook = new Webhook(secret);

createServer(async (request, response) => {
  let size = 0;
  request.on("data", (part) => (size += part.length) > 300 << 10 && request.destroy()); // a stranger's: no event is so large
  const body = await buffer(request).catch(() => undefined); // the raw bytes: what was signed
  if (body === undefined) return; // its sender hung up, or sends too much
  let event;
  try {
    event = webhook.verify(body, request.headers); // throws also where webhook-timestamp is 5 minutes off
  } catch {
    response.writeHead(401).end();
    return;
  }
  // A webhook.verify is answered with its nonce: yes, this endpoint wants the webhook's deliveries.
  response.writeHead(200).end(event.event === "webhook.verify" ? event.data.nonce : "");
  // The work comes after the answer. In production, store the event before it, where it survives a crash.
  setImmediate(work, request.headers["webhook-id"], event);
}).listen(Number(port), "127.0.0.1").on("error", ({ code }) => exit(`port ${port}: ${code}; give another as PORT or as the last argument`));

const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

function work(id, { event, data }) {
  if (seen.has(id)) return; // the same webhook-id may come twice: do the work once
  seen.add(id);
  console.log(id, event, JSON.stringify(data));
}
