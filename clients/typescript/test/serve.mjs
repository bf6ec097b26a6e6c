// Serves what exports a handler of the Fetch API, as Deno, Bun and Workers do: node serve.mjs MODULE PORT
import { createServer } from "node:http";

const [module, port] = process.argv.slice(2);
const { default: app } = await import(module);

createServer(async (request, response) => {
	const { method, headers, url } = request;
	const answer = await app.fetch(new Request(new URL(url, "http://localhost"), { method, headers, ...(method === "POST" && { body: request, duplex: "half" }) }));
	response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
}).listen(Number(port), "127.0.0.1");
