// Receivers of the npm package, each on a port of its own, in the order of the arguments.
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { Readable } from "node:stream";
import express from "express";
import fastify from "fastify";
import { expressHandler, fastifyPlugin, fetchHandler } from "@mathub/webhooks";

const [secret, ...ports] = process.argv.slice(2);
const handle = (name) => (event) => console.log(name, event.id, event.data.body.length);

const app = express();
app.post("/", expressHandler(secret, handle("express")));
const fast = fastify();
fast.register(fastifyPlugin(secret, handle("fastify")));
const fetches = fetchHandler(secret, handle("fetch"));

createServer(expressHandler(secret, handle("node"))).listen(ports[0], "127.0.0.1");
createHttp2Server(expressHandler(secret, handle("node-http2"))).listen(ports[1], "127.0.0.1");
app.listen(ports[2], "127.0.0.1");
fast.listen({ port: Number(ports[3]), host: "127.0.0.1" });
createServer(async (request, response) => {
  const { method, headers } = request;
  const answer = await fetches(new Request("http://127.0.0.1/", { method, headers, body: Readable.toWeb(request), duplex: "half" }));
  response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
}).listen(ports[4], "127.0.0.1");
