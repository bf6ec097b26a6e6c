// A receiver during a move: it takes Mathub's requests, and those of the service that you come from.
// npm ci, then node moving.mjs whsec_… OLD_SECRET [PORT]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const [secret, oldSecret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);
const exit = (message) => (console.error(message), process.exit(1));
if ([secret, oldSecret].some((one) => !one || one === "whsec_")) exit("usage: node moving.mjs whsec_… OLD_SECRET [PORT]");

createServer(async (request, response) => {
  let size = 0;
  request.on("data", (part) => (size += part.length) > 300 << 10 && request.destroy()); // a stranger's: no event is so large
  const body = await buffer(request).catch(() => undefined); // the raw bytes: what was signed
  if (body === undefined) return; // its sender hung up, or sends too much
  let id;
  try {
    id = verify(body, request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  const isVerification = request.headers["x-mathub-event"] === "webhook.verify";
  response.writeHead(200).end(isVerification ? JSON.parse(body).data.nonce : "");
  if (!isVerification) setImmediate(work, id, body);
}).listen(Number(port), "127.0.0.1").on("error", ({ code }) => exit(`port ${port}: ${code}; give another as PORT or as the last argument`));

// verify returns the event's id, or throws.
function verify(body, headers) {
  if (headers["x-mathub-event"]) return standard(body, headers, "webhook-", secret);
  if (headers["svix-id"]) return standard(body, headers, "svix-", oldSecret);
  if (headers["webhook-id"]) return standard(body, headers, "webhook-", oldSecret); // Svix without its name, or Outpost in its standard mode
  if (headers["x-outpost-signature"]) return timed(body, headers["x-outpost-signature"], ".") && headers["x-outpost-id"];
  if (headers["x-convoy-signature"]) return timed(body, headers["x-convoy-signature"], ",") && JSON.parse(body).id;
  throw new Error("not signed");
}

function standard(body, headers, prefix, key) {
  const [id, timestamp, signature] = ["id", "timestamp", "signature"].map((name) => headers[prefix + name]);
  new Webhook(key).verify(body, { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature });
  return id;
}

// timed verifies t=…,v1=…: HMAC-SHA256 in hex of the time, the separator and the body. It covers no id.
function timed(body, header, separator) {
  const parts = header.split(",").map((part) => part.split("="));
  const time = parts.find(([name]) => name === "t")?.[1];
  if (!(Math.abs(Date.now() / 1000 - Number(time)) <= 5 * 60)) throw new Error("a replay, or a wrong clock");
  const expected = createHmac("sha256", oldSecret).update(time + separator).update(body).digest();
  const given = parts.filter(([name]) => /^v\d$/.test(name)).map(([, hex]) => Buffer.from(hex ?? "", "hex"));
  if (!given.some((one) => one.length === expected.length && timingSafeEqual(one, expected))) throw new Error("wrong");
  return true;
}

const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

function work(id, body) {
  if (seen.has(id)) return; // from the one service or the other: do the work once
  seen.add(id);
  console.log(id, body.toString());
}
