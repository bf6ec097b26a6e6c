// A webhook receiver in Node without packages: node receiver.mjs SECRET [PORT]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const [secret, port = "9000"] = process.argv.slice(2);

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // the raw bytes: what was signed
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const signature = Buffer.from(request.headers["x-mathub-signature"] ?? "");
  const genuine = signature.length === expected.length && timingSafeEqual(signature, expected);
  response.writeHead(genuine ? 204 : 401).end();
  if (genuine) {
    const { event, data } = JSON.parse(body);
    // The same webhook-id may come twice: do the work once.
    console.log(request.headers["webhook-id"], event, data);
  }
}).listen(Number(port), "127.0.0.1");
