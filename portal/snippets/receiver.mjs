// receiver.mjs: node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";

const secret = {{.Secret}};
const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
if (key.length === 0) throw new Error("the secret is empty: anyone could sign with it");

const port = Number(process.env.PORT ?? 9000);

function genuine(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": time = "", "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(time) || Math.abs(Date.now() / 1000 - Number(time)) > 300) return false; // a replay, or a wrong clock
  const expected = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest("base64"));
  return signatures.split(" ").map((s) => Buffer.from(s)).some((s) => s.length === expected.length && timingSafeEqual(s, expected));
}

createServer(async (request, response) => {
  let size = 0;
  request.on("data", (part) => (size += part.length) > 300 << 10 && request.destroy()); // a stranger's: no event is so large
  const body = await buffer(request).catch(() => undefined); // verify the raw bytes
  if (body === undefined) return; // its sender hung up, or sends too much
  const ok = genuine(request.headers, body);
  const event = ok ? JSON.parse(body) : {};
  const answer = event.event === "webhook.verify" ? event.data.nonce : ""; // this endpoint wants the deliveries
  response.writeHead(ok ? 200 : 401).end(answer);
  if (ok) console.log(request.headers["webhook-id"], event);
  else console.log("wrong signature"); // a stranger's id may command a terminal
}).listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}/`)).on("error", ({ code }) => {
  console.error(`port ${port}: ${code}; give another as PORT`);
  process.exit(1);
});
