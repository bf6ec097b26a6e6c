// Verifies and receives on any runtime with the Fetch API: the test of the package runs it on Node, Deno and Bun.
import { fetchHandler, sign, VerificationError, verify } from "@mathub/webhooks";

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const body = '{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"größer ≥"}}';
const headers = await sign(body, secret, { id: "evt_1" });
const check = (holds, what) => {
	if (!holds) throw new Error(what);
};

check((await verify(body, new Headers(headers), secret)).data.body === "größer ≥", "the event");
for (const change of [{ "webhook-id": "evt_2" }, { "webhook-timestamp": "1614265330" }, { "webhook-signature": "v1,AA==" }]) {
	await verify(body, { ...headers, ...change }, secret).then(
		() => check(false, "a forgery is genuine"),
		(error) => check(error instanceof VerificationError, String(error)),
	);
}
const seen = [];
const handler = fetchHandler(["old", secret], (event) => seen.push(event.id), { limit: 1000 });
const post = (headers, body) => handler(new Request("http://127.0.0.1/mathub", { method: "POST", headers, body }));
check((await post(headers, body)).status === 204, "204");
check((await post({ ...headers, "webhook-id": "evt_2" }, body)).status === 401, "401");
check((await post(headers, body + " ".repeat(1000))).status === 413, "413");
check(seen.join() === "evt_1", "it is handled once");
console.log("verified");
