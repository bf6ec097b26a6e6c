import { identified } from "./emit.js";
import type { NewEvent } from "./events.js";
import { validId } from "./id.js";

/** A client of node-postgres (pg) in a transaction, or what has such a query method. */
export interface OutboxClient {
	query(text: string, values: unknown[]): PromiseLike<unknown>;
}

const insert = "INSERT INTO mathub_outbox (id, event, data, bot_ids, occurred_at) VALUES ($1, $2, $3, $4, COALESCE($5::text::timestamptz, now()))";

/**
 * Stores an event in the table mathub_outbox of your own database, and returns its id. Call it in the transaction that makes the event true:
 * `mathub-webhooks relay` emits it once that is committed, also after a crash, and never if it is rolled back.
 */
export async function storeEvent(client: OutboxClient, event: NewEvent): Promise<string> {
	const { id, event: type, timestamp = null, data, botIds = null } = identified(event);
	if (!validId(id)) throw new TypeError("the event's id must have 1 to 128 of the characters A-Z a-z 0-9 _ -");
	await client.query(insert, [id, type, JSON.stringify(data), botIds, timestamp]);
	return id;
}
