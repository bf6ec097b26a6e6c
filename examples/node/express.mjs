// A webhook receiver in Express: npm ci, then node express.mjs SECRET [PORT]
// It verifies X-Mathub-Signature at / and the Standard Webhooks signature at /standard: you need one of the two.
import { createHmac, timingSafeEqual } from "node:crypto";
import express from "express";
import { Webhook } from "standardwebhooks";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const app = express();

// The raw bytes, not express.json(): what was signed. Events are at most 256 KiB, and their envelope.
app.use(express.raw({ type: "application/json", limit: "300kb" }));

app.post("/", (request, response) => {
  const expected = Buffer.from(createHmac("sha256", secret).update(request.body).digest("hex"));
  const signature = Buffer.from(request.get("X-Mathub-Signature") ?? "");
  if (signature.length !== expected.length || !timingSafeEqual(signature, expected)) {
    return response.sendStatus(401);
  }
  accept(request, response);
});

app.post("/standard", (request, response) => {
  try {
    new Webhook(secret).verify(request.body, request.headers); // throws also where webhook-timestamp is 5 minutes off
  } catch {
    return response.sendStatus(401);
  }
  accept(request, response);
});

function accept(request, response) {
  response.sendStatus(204);
  // The work comes after the answer. In production, store the event before it, where it survives a crash.
  setImmediate(work, request.get("webhook-id"), request.body);
}

const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

function work(id, body) {
  if (seen.has(id)) return; // the same webhook-id may come twice: do the work once
  seen.add(id);
  const { event, data } = JSON.parse(body);
  console.log(id, event, JSON.stringify(data));
}

app.listen(Number(port), "127.0.0.1");
