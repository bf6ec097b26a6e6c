import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, sign as signWith } from "node:crypto";
import { test } from "node:test";
import { sign, VerificationError, verify } from "@mathub/webhooks";
import { Webhook } from "standardwebhooks";

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const body = '{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"größer ≥ \\u003c"}}';
const now = () => Math.floor(Date.now() / 1000);
const refused = (headers, options, of = body, by = secret) => assert.rejects(verify(of, headers, by, options), VerificationError);

test("a genuine request is the typed event with its id, in every form of body and headers", async () => {
	const headers = await sign(body, secret, { id: "evt_1" });
	const bytes = Buffer.from(body);
	const offset = Buffer.concat([Buffer.from("xx"), bytes]).subarray(2);
	for (const form of [body, bytes, offset, new Uint8Array(bytes), new Uint8Array(bytes).buffer]) {
		const event = await verify(form, headers, secret);
		assert.deepEqual(event, { event: "post.created", timestamp: "2025-03-20T10:30:00.000Z", data: { body: "größer ≥ <" }, id: "evt_1" });
	}
	const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
	const lists = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]]));
	for (const form of [new Headers(headers), new Map(Object.entries(headers)), upper, lists]) assert.equal((await verify(body, form, secret)).id, "evt_1");
	assert.equal((await verify(body, headers, secret, { signature: "body" })).id, "evt_1");
});

test("signatures are those of Node's crypto and of the Standard Webhooks library, for every form of secret", async () => {
	for (const one of [secret, "whsec_AA==", "my-secret-key-1234", "pässwörd"]) {
		const headers = await sign(body, one);
		assert.equal(headers["x-mathub-signature"], createHmac("sha256", one).update(body).digest("hex"));
		const isBase64 = one === secret || one === "whsec_AA==";
		const key = isBase64 ? Buffer.from(one.slice("whsec_".length), "base64") : one;
		const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
		assert.equal(headers["webhook-signature"], "v1," + createHmac("sha256", key).update(signed).digest("base64"));
		await verify(body, headers, one);
		await verify(body, headers, one, { signature: "body" });
		if (isBase64) new Webhook(one).verify(body, headers);
	}
});

test("a replay or a forgery is refused", async () => {
	const headers = await sign(body, secret, { id: "evt_1" });
	const zeros = "v1," + Buffer.alloc(32).toString("base64");
	for (const [name, change] of Object.entries({
		"another id": { "webhook-id": "evt_2" },
		"no id": { "webhook-id": undefined },
		"two ids": { "webhook-id": ["evt_1", "evt_1"] },
		"the same header in two cases": { "Webhook-Id": "evt_2" },
		"an id that is none": { "webhook-id": "evt.1" },
		"another time": { "webhook-timestamp": String(now() + 100) },
		"no time": { "webhook-timestamp": "" },
		"a time that is none": { "webhook-timestamp": "now" },
		"a time in milliseconds": { "webhook-timestamp": String(Date.now()) },
		"no signature": { "webhook-signature": undefined },
		"another signature": { "webhook-signature": zeros },
		"a short signature": { "webhook-signature": headers["webhook-signature"].slice(0, -4) },
		"a signature without version": { "webhook-signature": headers["webhook-signature"].slice(3) },
		"another version": { "webhook-signature": headers["webhook-signature"].replace("v1", "v2") },
		"no ASCII": { "webhook-signature": "v1,é" },
		"not padded": { "webhook-signature": headers["webhook-signature"].replace("=", "") },
	})) {
		await assert.rejects(verify(body, { ...headers, ...change }, secret), VerificationError, name);
	}
	await refused(headers, {}, body + " ");
	await refused(headers, {}, body, "whsec_" + Buffer.alloc(24).toString("base64"));
	await refused({ "x-mathub-signature": headers["x-mathub-signature"] });
	for (const wrong of ["", "0".repeat(64), headers["x-mathub-signature"].toUpperCase(), headers["x-mathub-signature"].slice(2), "é"]) {
		await refused({ ...headers, "x-mathub-signature": wrong }, { signature: "body" });
	}
});

test("the time may be off by the tolerance, either way", async () => {
	for (const off of [-290, 290]) await verify(body, await sign(body, secret, { timestamp: now() + off }), secret);
	for (const off of [-310, 310]) await refused(await sign(body, secret, { timestamp: now() + off }));
	const old = await sign(body, secret, { timestamp: now() - 1000 });
	await verify(body, old, secret, { tolerance: 2000 });
	await refused(old, { tolerance: Number.NaN });
	await verify(body, old, secret, { signature: "body" });
});

test("the first ten signatures are looked at", async () => {
	const headers = await sign(body, secret);
	const after = (others) => ({ ...headers, "webhook-signature": "v1,AA== ".repeat(others) + headers["webhook-signature"] });
	await verify(body, after(9), secret);
	await refused(after(10));
});

test("while a secret is changed, one signature of several is enough, and one secret of several", async () => {
	const old = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZA==";
	const [by, byOld] = [await sign(body, secret, { id: "evt_1" }), await sign(body, old, { id: "evt_1" })];
	const both = { ...by, "webhook-signature": `${by["webhook-signature"]} ${byOld["webhook-signature"]}` };
	for (const one of [secret, old, [old, secret], [secret]]) await verify(body, both, one);
	await verify(body, by, [old, secret]);
	await verify(body, { ...by, "webhook-signature": [byOld["webhook-signature"], by["webhook-signature"]] }, secret);
	await refused(by, {}, body, [old]);
	await verify(body, by, [old, secret], { signature: "body" });
});

test("a public key verifies what its private key has signed, beside secrets or alone", async () => {
	const { publicKey, privateKey } = generateKeyPairSync("ed25519");
	const key = "whpk_" + publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
	const headers = await sign(body, secret);
	const signed = (of) => "v1a," + signWith(null, Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${of}`), privateKey).toString("base64");
	const both = { ...headers, "webhook-signature": headers["webhook-signature"] + " " + signed(body) };
	for (const by of [key, secret, [key, "another"], ["another", key]]) assert.equal((await verify(body, both, by)).event, "post.created");
	for (const signature of [signed(body + " "), "v1a,", "v1a,AAAA", headers["webhook-signature"], signed(body).replace("v1a,", "v1,")]) {
		await refused({ ...headers, "webhook-signature": signature }, {}, body, key);
	}
	await refused({ ...both, "webhook-id": "another" }, {}, body, key);
	// The key is public: no signature is right that anyone could make with it as a secret.
	const forged = { ...headers, "webhook-signature": "v1," + createHmac("sha256", key).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`).digest("base64") };
	await refused(forged, {}, body, key);
	await assert.rejects(verify(body, both, key, { signature: "body" }), TypeError);
	await assert.rejects(verify(body, both, "whpk_AAAA"), TypeError);
	for (const before of [" ", '"', "\ufeff", "v1a,", "\n"]) await assert.rejects(verify(body, both, before + key), /must begin with whpk_/, "a secret that everybody knows");
	await assert.rejects(sign(body, key), TypeError);
});

test("a mistake of the caller's is no forgery", async () => {
	const headers = await sign(body, secret);
	for (const none of ["", "whsec_", [], [secret, ""], undefined]) await assert.rejects(verify(body, headers, none), { name: "TypeError", message: /secret/ });
	for (const cut of ["whsec_!!", "whsec_AA", "whsec_AA=", "whsec_A\nA==", "whsec__w=="]) await assert.rejects(verify(body, headers, cut), { name: "TypeError", message: /its end may be missing/ });
	await assert.rejects(verify(JSON.parse(body), headers, secret), { name: "TypeError", message: /before it is parsed/ });
	await assert.rejects(verify(body, headers, secret, { signature: "both" }), TypeError);
});

test("what is signed but no event is refused", async () => {
	for (const text of ["", "null", "[]", '"x"', '{"event":1,"data":{}}', '{"event":"x"}', '{"event":"x","data":null}']) {
		await refused(await sign(text, secret), {}, text);
	}
	const noUTF8 = Buffer.concat([Buffer.from('{"event":"x","data":{"a":"'), Buffer.from([0xff]), Buffer.from('"}}')]);
	await refused(await sign(noUTF8, secret), {}, noUTF8);
});
