/** Says whether a text may be an event's id. */
export function validId(id: string): boolean {
	return /^[A-Za-z0-9_-]{1,128}$/.test(id);
}

/** A new UUIDv7 (RFC 9562 §5.7): time, then chance, so that ids made together lie together. */
export function newId(): string {
	const bytes = crypto.getRandomValues(new Uint8Array(16));
	new DataView(bytes.buffer).setBigUint64(0, (BigInt(Date.now()) << 16n) | 0x7000n | (BigInt(bytes[6] as number) << 8n & 0x0f00n) | BigInt(bytes[7] as number));
	bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
	const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
	return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** An event's id as it is stored: a UUID in lower case, any other as it stands. */
export function canonicalId(id: string): string {
	return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id) ? id.toLowerCase() : id;
}
