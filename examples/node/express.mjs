// A webhook receiver in Express: npm ci, then node express.mjs whsec_… [PORT]
// It verifies the Standard Webhooks signature, which covers the event's id and the time: a request that is sent again under
// another webhook-id, or later, is refused.
import express from "express";
import { Webhook } from "standardwebhooks";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const webhook = new Webhook(secret);
const app = express();

// The raw bytes, not express.json(): what was signed. Events are at most 256 KiB, and their envelope.
app.use(express.raw({ type: "application/json", limit: "300kb" }));

app.post("/", (request, response) => {
  try {
    webhook.verify(request.body, request.headers); // throws also where webhook-timestamp is 5 minutes off
  } catch {
    return response.sendStatus(401);
  }
  accept(request, response);
});

function accept(request, response) {
  // A webhook.verify is answered with its nonce: yes, this endpoint wants the webhook's deliveries.
  response.type("text").send(request.get("X-Mathub-Event") === "webhook.verify" ? JSON.parse(request.body).data.nonce : "");
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
