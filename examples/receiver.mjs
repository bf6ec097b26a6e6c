// A webhook receiver in Node without packages: node receiver.mjs SECRET [PORT]
//
// It verifies the Standard Webhooks signature, which covers the event's id and the time: a request that is sent again under
// another webhook-id, or later, is refused.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const exit = (message) => (console.error(message), process.exit(1));
if (!secret) exit("usage: node receiver.mjs SECRET [PORT]");
if (secret.includes("whpk_")) exit("that is a public key: anyone could sign with it as a secret");
// The key of a secret whsec_… is what the base64 says; any other is its own key.
const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice("whsec_".length), "base64") : Buffer.from(secret);
if (key.length === 0) exit("the secret is empty: anyone could sign with it");
const tolerance = 5 * 60; // seconds, either way

createServer(async (request, response) => {
  let size = 0;
  request.on("data", (part) => (size += part.length) > 300 << 10 && request.destroy()); // a stranger's: no event is so large
  const body = await buffer(request).catch(() => undefined); // the raw bytes: what was signed
  if (body === undefined) return; // its sender hung up, or sends too much
  const ok = genuine(request.headers, body);
  // A webhook.verify is answered with its nonce: yes, this endpoint wants the webhook's deliveries.
  const answer = ok && request.headers["x-mathub-event"] === "webhook.verify" ? JSON.parse(body).data.nonce : "";
  response.writeHead(ok ? 200 : 401).end(answer);
  // The work comes after the answer. In production, store the event before it, where it survives a crash.
  if (ok) setImmediate(work, request.headers["webhook-id"], body);
}).listen(Number(port), "127.0.0.1").on("error", ({ code }) => exit(`port ${port}: ${code}; give another as PORT or as the last argument`));

function genuine(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false; // a replay, or a wrong clock
  const expected = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64"));
  // Several signatures come while a secret is changed; one that is right will do.
  return signatures.split(" ").map((s) => Buffer.from(s)).some((s) => s.length === expected.length && timingSafeEqual(s, expected));
}

const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

function work(id, body) {
  if (seen.has(id)) return; // the same webhook-id may come twice: do the work once
  seen.add(id);
  const { event, data } = JSON.parse(body);
  console.log(id, event, JSON.stringify(data));
}
