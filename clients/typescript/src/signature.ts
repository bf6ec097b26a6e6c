import type { MathubEvent } from "./events.js";
import { validId } from "./id.js";

/** A body as it came: text, or bytes. Node's Buffer is a Uint8Array. */
export type Body = string | Uint8Array | ArrayBuffer;

/** Headers in the form of the Fetch API, of Node, or of a plain object; names in any letter case. */
export type HeadersLike = { forEach(each: (value: string, name: string) => void): void } | Record<string, string | readonly string[] | undefined>;

/** A webhook's secret, or a public key of it (whpk_…), or several while they are changed: one that is right will do. */
export type Secret = string | readonly string[];

/** How signatures are verified. */
export interface VerifyOptions {
	/**
	 * Which signature is to hold. "standard", the default: webhook-signature (Standard Webhooks), which covers the event's id, the
	 * time of the attempt and the body, so that a request cannot be sent again later or under another id. "body":
	 * X-Mathub-Signature, which covers the body alone, so that id and time prove nothing.
	 */
	signature?: "standard" | "body";
	/** How far webhook-timestamp may be off, in seconds, in either direction. Default: 300. "body" has no time to check. */
	tolerance?: number;
}

/** Says that a request is not from Mathub, or not as it was sent: answer 401. It does not hold the secret. */
export class VerificationError extends Error {
	override readonly name = "VerificationError";
}

const standardPrefix = "whsec_";
const publicKeyPrefix = "whpk_";
const defaultTolerance = 300;
const mostSignatures = 10; // of a request: each costs work, whoever sends it
const utf8 = new TextEncoder();

/**
 * Verifies a request to a webhook and returns its event. body is what came, byte for byte: a body that was parsed and made into
 * JSON again has another signature. The error is a VerificationError if the request is not genuine, else a TypeError for a mistake
 * of the caller's, such as no secret.
 */
export async function verify(body: Body, headers: HeadersLike, secret: Secret, options: VerifyOptions = {}): Promise<MathubEvent> {
	const bytes = bytesOf(body);
	const secrets = secretsOf(secret);
	const id = single(headers, "webhook-id");
	switch (options.signature ?? "standard") {
		case "standard":
			await verifyStandard(bytes, headers, id, secrets, options.tolerance ?? defaultTolerance);
			break;
		case "body":
			await verifyBody(bytes, headers, secrets);
			break;
		default:
			throw new TypeError('signature must be "standard" or "body"');
	}
	return parse(bytes, id);
}

async function verifyStandard(body: Uint8Array<ArrayBuffer>, headers: HeadersLike, id: string, secrets: readonly string[], tolerance: number): Promise<void> {
	const timestamp = single(headers, "webhook-timestamp");
	if (!validId(id)) throw new VerificationError("webhook-id is missing, or no event's id");
	if (!/^\d{1,15}$/.test(timestamp)) throw new VerificationError("webhook-timestamp is missing, or not a time in Unix seconds");
	if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) {
		throw new VerificationError(`webhook-timestamp is more than ${tolerance} s off: the request is sent again, or the clock is wrong`);
	}
	// While a secret is changed, there are several, separated by spaces.
	const signatures = values(headers, "webhook-signature").flatMap((value) => value.split(" ")).slice(0, mostSignatures);
	const given = (version: string) => signatures.filter((value) => value.startsWith(version)).map((value) => fromBase64(value.slice(version.length)));
	const signed = standardText(id, timestamp, body);
	const shared = await Promise.all(secrets.filter((one) => !isPublicKey(one)).map((one) => hmacKey(standardKey(one), "verify")));
	const own = await Promise.all(secrets.filter(isPublicKey).map(ed25519Key));
	if (!((await matches(shared, given("v1,"), signed)) || (await matches(own, given("v1a,"), signed)))) throw new VerificationError("webhook-signature is missing or wrong");
}

async function verifyBody(body: Uint8Array<ArrayBuffer>, headers: HeadersLike, secrets: readonly string[]): Promise<void> {
	const given = fromHex(single(headers, "x-mathub-signature"));
	if (secrets.some(isPublicKey)) throw new TypeError('a public key verifies the "standard" signature only');
	const keys = await Promise.all(secrets.map((secret) => hmacKey(utf8.encode(secret), "verify")));
	if (!(await matches(keys, [given], body))) throw new VerificationError("X-Mathub-Signature is missing or wrong");
}

/** Says whether one of the signatures is that of one of the keys. Web Crypto compares in constant time. */
async function matches(keys: CryptoKey[], signatures: (Uint8Array<ArrayBuffer> | undefined)[], signed: Uint8Array<ArrayBuffer>): Promise<boolean> {
	let found = false;
	for (const key of keys) {
		for (const signature of signatures) {
			if (signature !== undefined && (await crypto.subtle.verify(key.algorithm.name, key, signature, signed))) found = true;
		}
	}
	return found;
}

/**
 * Signs a body as Mathub does and returns the request's headers: for the tests of a receiver. id defaults to a new one and
 * timestamp, in Unix seconds, to now.
 */
export async function sign(body: Body, secret: string, { id = crypto.randomUUID(), timestamp = Math.floor(Date.now() / 1000) }: { id?: string; timestamp?: number } = {}): Promise<Record<string, string>> {
	const bytes = bytesOf(body);
	const [own] = secretsOf(secret) as [string];
	if (isPublicKey(own)) throw new TypeError("a public key cannot sign");
	const mac = async (key: Uint8Array<ArrayBuffer>, text: Uint8Array<ArrayBuffer>) =>
		new Uint8Array(await crypto.subtle.sign("HMAC", await hmacKey(key, "sign"), text));
	const standard = await mac(standardKey(own), standardText(id, String(timestamp), bytes));
	const plain = await mac(utf8.encode(own), bytes);
	return {
		"content-type": "application/json",
		"webhook-id": id,
		"webhook-timestamp": String(timestamp),
		"webhook-signature": "v1," + btoa(String.fromCharCode(...standard)),
		"x-mathub-signature": Array.from(plain, (byte) => byte.toString(16).padStart(2, "0")).join(""),
	};
}

function hmacKey(bytes: Uint8Array<ArrayBuffer>, usage: "sign" | "verify"): Promise<CryptoKey> {
	return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, [usage]);
}

function isPublicKey(secret: string): boolean {
	return secret.startsWith(publicKeyPrefix);
}

async function ed25519Key(publicKey: string): Promise<CryptoKey> {
	const bytes = fromBase64(publicKey.slice(publicKeyPrefix.length));
	if (bytes?.length !== 32) throw new TypeError("a public key must be whpk_ and the base64 of 32 bytes");
	return crypto.subtle.importKey("raw", bytes, { name: "Ed25519" }, false, ["verify"]);
}

function standardText(id: string, timestamp: string, body: Uint8Array): Uint8Array<ArrayBuffer> {
	const head = utf8.encode(`${id}.${timestamp}.`);
	const text = new Uint8Array(head.length + body.length);
	text.set(head);
	text.set(body, head.length);
	return text;
}

/** The key of webhook-signature: of a secret whsec_<base64> the bytes that it encodes, else the secret's own. */
function standardKey(secret: string): Uint8Array<ArrayBuffer> {
	const decoded = secret.startsWith(standardPrefix) ? fromBase64(secret.slice(standardPrefix.length)) : undefined;
	return decoded !== undefined && decoded.length > 0 ? decoded : utf8.encode(secret);
}

/** The secrets, each of which is one. */
export function secretsOf(secret: Secret): readonly string[] {
	const secrets = typeof secret === "string" ? [secret] : secret;
	if (!Array.isArray(secrets) || secrets.length === 0 || secrets.some((one) => typeof one !== "string" || one === "" || one === standardPrefix)) {
		throw new TypeError("the secret is empty: anyone could sign with it");
	}
	// As a secret, it would be one that everybody knows.
	if (secrets.some((one) => one.lastIndexOf(publicKeyPrefix) > 0)) throw new TypeError("a public key must begin with whpk_: remove what stands before it, such as a quote or a space");
	// Else each request would be refused.
	if (secrets.some((one) => one.trim() !== one)) throw new TypeError("the secret begins or ends with white space, such as a file's last line break: no webhook has one like that");
	if (secrets.some((one) => one.startsWith(standardPrefix) && fromBase64(one.slice(standardPrefix.length)) === undefined)) {
		throw new TypeError("the secret has no padded base64 after whsec_, as each webhook's has: its end may be missing, such as a =");
	}
	return secrets;
}

function bytesOf(body: Body): Uint8Array<ArrayBuffer> {
	if (typeof body === "string") return utf8.encode(body);
	// Not instanceof: what comes from another realm, as in some test runners, is as good.
	if (ArrayBuffer.isView(body)) return new Uint8Array(new Uint8Array(body.buffer, body.byteOffset, body.byteLength));
	if (Object.prototype.toString.call(body) === "[object ArrayBuffer]") return new Uint8Array(body);
	throw new TypeError("the body must be a string, Uint8Array or ArrayBuffer, as it came: verify it before it is parsed");
}

function parse(bytes: Uint8Array, id: string): MathubEvent {
	let parsed: unknown;
	try {
		parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
	} catch {
		throw new VerificationError("the body is signed, but is no JSON");
	}
	const body = parsed as { event?: unknown; timestamp?: unknown; data?: unknown; test?: unknown } | null;
	if (typeof body !== "object" || body === null || typeof body.event !== "string" || typeof body.data !== "object" || body.data === null) {
		throw new VerificationError("the body is signed, but is no event");
	}
	return { ...body, id } as MathubEvent;
}

/** All values of a header. */
function values(headers: HeadersLike, name: string): string[] {
	const found: string[] = [];
	const take = (key: string, value: string | readonly string[] | undefined) => {
		if (key.toLowerCase() === name && value !== undefined) found.push(...(typeof value === "string" ? [value] : value));
	};
	if (typeof headers.forEach === "function") {
		headers.forEach((value: string, key: string) => take(key, value));
	} else {
		for (const [key, value] of Object.entries(headers as Record<string, string | readonly string[] | undefined>)) take(key, value);
	}
	return found;
}

/** The value of a header that must be there once, or "". */
function single(headers: HeadersLike, name: string): string {
	const found = values(headers, name);
	if (found.length > 1) throw new VerificationError(`${name} is there more than once`);
	return found[0] ?? "";
}

/** The bytes of padded standard base64, or nothing. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
	if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) return undefined;
	return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The bytes of lower-case hex of HMAC-SHA256, or nothing. */
function fromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
	if (!/^[0-9a-f]{64}$/.test(text)) return undefined;
	return Uint8Array.from(text.match(/../g) as string[], (pair) => Number.parseInt(pair, 16));
}
