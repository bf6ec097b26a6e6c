// A webhook receiver in Node without packages: node receiver.mjs SECRET [PORT]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const [secret, port = process.env.PORT ?? "9000"] = process.argv.slice(2);

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // the raw bytes: what was signed
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const signature = Buffer.from(request.headers["x-mathub-signature"] ?? "");
  const genuine = signature.length === expected.length && timingSafeEqual(signature, expected);
  response.writeHead(genuine ? 204 : 401).end();
  // The work comes after the answer. In production, store the event before it, where it survives a crash.
  if (genuine) setImmediate(work, request.headers["webhook-id"], body);
}).listen(Number(port), "127.0.0.1");

const seen = new Set(); // in production: a unique key in the database, set in the transaction that does the work

function work(id, body) {
  if (seen.has(id)) return; // the same webhook-id may come twice: do the work once
  seen.add(id);
  const { event, data } = JSON.parse(body);
  console.log(id, event, JSON.stringify(data));
}
