// Code generated from api/openapi.yaml by "make generate". DO NOT EDIT.
import type { EventType, MathubEvent } from "./events.js";

/** What a call is made of. */
export interface Call {
	method: string;
	path: string;
	query?: object;
	body?: unknown;
}

/** Options of a call. */
export interface CallOptions {
	/** Gives the call up. */
	signal?: AbortSignal;
}

/** A page of a list. next is the cursor of the next page; the last page has none. */
export type Page<T> = T[] & { next?: string };

/** The calls of the bot API. */
export abstract class BotAPI {
	/** Makes a call and returns the answer's body. */
	protected abstract send<T>(call: Call, options?: CallOptions): Promise<T>;
	/** Yields the items of all pages. */
	protected abstract pages<T>(list: (cursor?: string) => Promise<Page<T>>, first?: string): AsyncGenerator<T, void, undefined>;

	/**
	 * List the bot's webhooks and how they have been doing, oldest first.
	 * A page holds at most 1,000 webhooks and 1 MiB. The `Link` header leads to the next page.
	 */
	listWebhooks(query: ListWebhooksQuery = {}, options?: CallOptions): Promise<Page<WebhookDetail>> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks`, query }, options);
	}

	/** What listWebhooks lists, of all pages. */
	webhooks(query: ListWebhooksQuery = {}, options?: CallOptions): AsyncGenerator<WebhookDetail, void, undefined> {
		return this.pages((cursor) => this.listWebhooks({ ...query, after: cursor }, options), query.after);
	}

	/** Subscribe an endpoint. */
	createWebhook(body: NewWebhook, options?: CallOptions): Promise<Webhook> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks`, body }, options);
	}

	/** Get a webhook and its statistics. */
	getWebhook(id: string, options?: CallOptions): Promise<WebhookDetail> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}` }, options);
	}

	/**
	 * Change the given fields of a webhook.
	 * `isActive: true` enables the webhook and sets `failureCount` to 0; deliveries that began earlier no longer count.
	 * `isActive: false` disables it. `secret: null` removes the secret. The next attempt uses the change, retries
	 * included. The call is idempotent: an equal value changes nothing, and an equal `secret` is no rotation.
	 */
	updateWebhook(id: string, body: WebhookChange, options?: CallOptions): Promise<Webhook> {
		return this.send({ method: "PATCH", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}`, body }, options);
	}

	/** Delete a webhook and its history. */
	deleteWebhook(id: string, options?: CallOptions): Promise<void> {
		return this.send({ method: "DELETE", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}` }, options);
	}

	/**
	 * Send a test event now.
	 * Answers 200 with the delivery, even if it failed. Works on a disabled webhook too. A test counts as any delivery
	 * does. It is never retried, and its success does not enable the webhook.
	 *
	 * With `eventType`, the event is the catalog's sample of that type, whether or not the webhook subscribes to it. Its
	 * body has one more member, `"test":true`, and its delivery keeps the `eventType` `test` in the history.
	 */
	testWebhook(id: string, body?: TestRequest, options?: CallOptions): Promise<Delivery> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/test`, body }, options);
	}

	/**
	 * Verify the endpoint now.
	 * Sends a signed `webhook.verify` event with a nonce. The endpoint is verified if it answers 2xx within 5 s and the
	 * body is the nonce, as text or as `nonce` in a JSON object; `success` of the delivery is then true. The service also
	 * sends one when a webhook is created and when its URL changes. A verification does not change `failureCount`.
	 */
	verifyWebhook(id: string, options?: CallOptions): Promise<Delivery> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/verify` }, options);
	}

	/**
	 * Give the webhook a key pair, or another one.
	 * From then on `webhook-signature` also has a `v1a` signature, of Ed25519 (Standard Webhooks), beside those of the secret.
	 * Whoever verifies needs the public key alone (`publicKeys`), with which nobody can sign. The private key never leaves the
	 * service. In a rotation the key before signs too for `overlap`; until then, another rotation is a 409 unless its `overlap` is
	 * `0s`, so that a repeated call takes no key from receivers.
	 */
	rotateSigningKey(id: string, body?: KeyRotation, options?: CallOptions): Promise<Webhook> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/signing-key`, body }, options);
	}

	/**
	 * Remove the webhook's key pair.
	 * Deliveries have no `v1a` signature any more. Without a key pair this changes nothing.
	 */
	removeSigningKey(id: string, options?: CallOptions): Promise<void> {
		return this.send({ method: "DELETE", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/signing-key` }, options);
	}

	/**
	 * Attempt now what waits.
	 * Makes the webhook's planned attempts due now, those of one event with `eventId`, else the next 10,000. A failing
	 * webhook still gets one at a time, and failures count. A disabled webhook answers 409: nothing waits for it. Of an
	 * `ordered` webhook, only the first that waits can be attempted now: with another `eventId` it answers 409.
	 */
	retryNow(id: string, body?: RetryRequest, options?: CallOptions): Promise<RetryResult> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/retry-now`, body }, options);
	}

	/**
	 * List what waits for a webhook, in the order in which it is sent.
	 * What is sent at once is not listed: of a healthy webhook that is not `ordered`, nothing waits. Of an `ordered` webhook,
	 * the first waits for its time, and all others for those before them.
	 */
	listWaiting(id: string, options?: CallOptions): Promise<WaitingDelivery[]> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/waiting` }, options);
	}

	/**
	 * List a webhook's deliveries, newest first.
	 * The newest is the one recorded last. The order never changes. The `Link` header leads to the next page; the last page
	 * has none. A call scans at most 10,000 deliveries for the filters, and a page ends after 1 MiB or one larger delivery.
	 * A page may therefore be short, or empty, and still not be the last.
	 *
	 * `since` and `until` bound the time of the attempt; the call scans only that span. A delivery that was recorded over 10
	 * minutes after its attempt may be left out of it.
	 *
	 * Events and their deliveries are removed after the configured retention, 30 days by default. `failureCount` stays.
	 */
	listDeliveries(id: string, query: ListDeliveriesQuery = {}, options?: CallOptions): Promise<Page<Delivery>> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/deliveries`, query }, options);
	}

	/** What listDeliveries lists, of all pages. */
	deliveries(id: string, query: ListDeliveriesQuery = {}, options?: CallOptions): AsyncGenerator<Delivery, void, undefined> {
		return this.pages((cursor) => this.listDeliveries(id, { ...query, before: cursor }, options), query.before);
	}

	/**
	 * List the deliveries of all the bot's webhooks, newest first.
	 * As the list of one webhook's deliveries: the same filters, order, pages and limits, for all webhooks together.
	 */
	listAllDeliveries(query: ListAllDeliveriesQuery = {}, options?: CallOptions): Promise<Page<Delivery>> {
		return this.send({ method: "GET", path: `/api/bot/v1/deliveries`, query }, options);
	}

	/** What listAllDeliveries lists, of all pages. */
	allDeliveries(query: ListAllDeliveriesQuery = {}, options?: CallOptions): AsyncGenerator<Delivery, void, undefined> {
		return this.pages((cursor) => this.listAllDeliveries({ ...query, before: cursor }, options), query.before);
	}

	/**
	 * Get a delivery in full.
	 * Adds to the list's fields the headers of request and response, the timings, and the next planned attempt.
	 */
	getDelivery(id: string, deliveryId: string, options?: CallOptions): Promise<DeliveryDetail> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/deliveries/${encodeURIComponent(deliveryId)}` }, options);
	}

	/**
	 * Send a delivery's event again, now.
	 * Answers 200 with the new delivery, the next attempt at the same event, even if it failed. Works on a disabled webhook
	 * too. It counts as any delivery does and is never retried. A removed delivery answers 404. Deliveries are removed after
	 * the configured retention, 30 days by default, counted from the event's acceptance.
	 */
	redeliverDelivery(id: string, deliveryId: string, options?: CallOptions): Promise<Delivery> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/deliveries/${encodeURIComponent(deliveryId)}/redeliver` }, options);
	}

	/**
	 * Deliver what the webhook missed.
	 * Delivers every event accepted from `since` to `until` that matches the webhook's current subscription and filter, and has
	 * no successful delivery to it. That includes events missed while the webhook was disabled, and excludes those from before
	 * it was created. Events go oldest first, one at a time, at most ten a second.
	 *
	 * A bot can run one recovery at a time; a second one answers 409. One that only waits, for a retry or the end of a pause,
	 * blocks no other webhook of the bot. A recovery stops when the webhook is disabled again.
	 * Events are kept for the configured retention, 30 days by default. An earlier `since` answers 422.
	 */
	recoverWebhook(id: string, body?: Span, options?: CallOptions): Promise<Recovery> {
		return this.send({ method: "POST", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/recover`, body }, options);
	}

	/** Get the progress of the webhook's last recovery. */
	getRecovery(id: string, options?: CallOptions): Promise<Recovery> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/recover` }, options);
	}

	/** Cancel the webhook's recovery. The delivery in flight completes. */
	cancelRecovery(id: string, options?: CallOptions): Promise<void> {
		return this.send({ method: "DELETE", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/recover` }, options);
	}

	/**
	 * Count what a recovery would deliver.
	 * Counts the events that `POST …/recover` with the same `since`, `until` and filters would find now, and lists the first
	 * 50, oldest first. The count looks through 5,000 events of the span at most, and 8 MiB of what a filter judges; `atLeast` says that
	 * there are more.
	 */
	getMissed(id: string, query: GetMissedQuery = {}, options?: CallOptions): Promise<Missed> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/missed`, query }, options);
	}

	/** List the webhook's last 50 recoveries, newest first. */
	listRecoveries(id: string, options?: CallOptions): Promise<Recovery[]> {
		return this.send({ method: "GET", path: `/api/bot/v1/webhooks/${encodeURIComponent(id)}/recoveries` }, options);
	}

	/**
	 * Count the bot's deliveries by time.
	 * Deliveries are counted by the time of the attempt, in buckets that begin at whole minutes, hours or days, in UTC. The
	 * first and the last bucket may reach beyond `from` and `to`. What was removed because the bot's history exceeded its
	 * budget stays counted.
	 */
	getStats(query: GetStatsQuery = {}, options?: CallOptions): Promise<DeliveryStats> {
		return this.send({ method: "GET", path: `/api/bot/v1/stats`, query }, options);
	}

	/**
	 * Try a filter on the bot's last events.
	 * Counts the last 100 events of some types that concern the bot, or as many as have 8 MiB, and those of them that a webhook with the
	 * filter would have got. It looks through the last 20,000 events of all bots. It changes nothing.
	 */
	previewFilter(body: FilterTrial, options?: CallOptions): Promise<FilterPreview> {
		return this.send({ method: "POST", path: `/api/bot/v1/filter-preview`, body }, options);
	}

	/**
	 * Read the bot's events in a fixed order, from a cursor.
	 * Returns the events that go to every bot and those whose audience includes the bot, whatever its webhooks subscribe to.
	 * `test` events are left out.
	 *
	 * Process the events, save `cursor`, and pass it as `after` in the next call: every event is then read at least once, and
	 * none is skipped. While `hasMore` is true, call again at once. Otherwise call with `wait`: the call returns when an
	 * event arrives or the time is over. A waiting call counts once against the key's rate limit, when it begins. At most 10
	 * calls of a bot wait at once.
	 *
	 * With the `ETag` of the last answer in `If-None-Match`, a call waits until the answer differs, or answers 304 when the
	 * time is over.
	 *
	 * A field of the events' data as a parameter filters them as a webhook's `filter` does: `?projectSlug=a&projectSlug=b`.
	 * It must be a field of one of the `types`.
	 */
	pollEvents(query: PollEventsQuery = {}, options?: CallOptions): Promise<EventPage> {
		return this.send({ method: "GET", path: `/api/bot/v1/events`, query }, options);
	}

	/** Get the bot that the key belongs to. */
	getOwnBot(options?: CallOptions): Promise<Bot> {
		return this.send({ method: "GET", path: `/api/bot/v1/bot` }, options);
	}

	/**
	 * Change where the bot's owner is notified of webhooks that fail.
	 * `notifyUrl: null` removes the URL and its secret. A URL that is set without a `notifySecret`, where there is none, gets a new secret, which is shown only in this answer.
	 */
	updateOwnBot(body: NotifyChange, options?: CallOptions): Promise<Bot> {
		return this.send({ method: "PATCH", path: `/api/bot/v1/bot`, body }, options);
	}

	/**
	 * Send a test notification now.
	 * Sends a signed `webhook.disabled` to the bot's `notifyUrl`, once, and answers 200 with what came of it. The body has one
	 * more member, `"test":true`, and names a webhook that does not exist. It is limited as deliveries to an unverified
	 * endpoint are.
	 */
	testNotification(options?: CallOptions): Promise<NotificationTest> {
		return this.send({ method: "POST", path: `/api/bot/v1/bot/notification-test` }, options);
	}

	/** List the event types that webhooks can subscribe to. */
	listEventTypes(options?: CallOptions): Promise<EventTypeInfo[]> {
		return this.send({ method: "GET", path: `/api/bot/v1/event-types` }, options);
	}

	/** List the bot's keys, oldest first. There are at most 100. */
	listOwnKeys(options?: CallOptions): Promise<KeyInfo[]> {
		return this.send({ method: "GET", path: `/api/bot/v1/keys` }, options);
	}

	/** Create another key for the bot. The key is shown only in this answer. */
	createOwnKey(body?: NewKey, options?: CallOptions): Promise<Key> {
		return this.send({ method: "POST", path: `/api/bot/v1/keys`, body }, options);
	}

	/** Revoke a key of the bot, this call's own included. It stops working at once, and so do the portal links and sessions that it made. */
	deleteOwnKey(ownKeyId: string, options?: CallOptions): Promise<void> {
		return this.send({ method: "DELETE", path: `/api/bot/v1/keys/${encodeURIComponent(ownKeyId)}` }, options);
	}

	/**
	 * Make a link that opens the portal of the bot.
	 * The link works once. The sessions that it opens end with the key that made it.
	 */
	createOwnPortalLink(body?: NewPortalLink, options?: CallOptions): Promise<PortalLink> {
		return this.send({ method: "POST", path: `/api/bot/v1/portal-links`, body }, options);
	}

	/**
	 * List who changed what of the bot, newest first.
	 * A page holds at most 50 entries. The `Link` header leads to the next page. Entries are kept for the configured time,
	 * 400 days by default, but of what a bot's keys, sessions and webhooks did the last 10,000. None holds a secret: of a URL there is the origin.
	 */
	listAudit(query: ListAuditQuery = {}, options?: CallOptions): Promise<Page<AuditEntry>> {
		return this.send({ method: "GET", path: `/api/bot/v1/audit`, query }, options);
	}

	/** What listAudit lists, of all pages. */
	audit(query: ListAuditQuery = {}, options?: CallOptions): AsyncGenerator<AuditEntry, void, undefined> {
		return this.pages((cursor) => this.listAudit({ ...query, before: cursor }, options), query.before);
	}
}

/** What listWebhooks can be asked for. */
export interface ListWebhooksQuery {
	/** The id of a webhook, which may have been deleted. The list begins after it, with younger ones. */
	after?: string;
}

/** What listDeliveries can be asked for. */
export interface ListDeliveriesQuery {
	/** `true` lists successful deliveries, `false` failed ones. */
	success?: boolean;
	/** Only this event type. `test` is allowed. */
	eventType?: string;
	/** Only the attempts of this event. */
	eventId?: string;
	/** Only attempts with this `trigger`. */
	trigger?: string;
	/** Only attempts with such a status code: `2xx`, `3xx`, `4xx`, `5xx`, or `none` for those without a response. */
	statusClass?: string;
	/** Only attempts with this `error`, or with one that begins with it and a colon: `tls` finds `tls: certificate expired`. */
	error?: string;
	/** Only attempts made at this time or later. */
	since?: string;
	/** Only attempts made at this time or earlier. */
	until?: string;
	/** The id of a delivery that is kept, or what the `Link` header has. The list begins after it, with older ones. */
	before?: string;
	/** The size of the page. */
	limit?: number;
}

/** What listAllDeliveries can be asked for. */
export interface ListAllDeliveriesQuery {
	/** `true` lists successful deliveries, `false` failed ones. */
	success?: boolean;
	/** Only this event type. `test` is allowed. */
	eventType?: string;
	/** Only the attempts of this event. */
	eventId?: string;
	/** Only attempts with this `trigger`. */
	trigger?: string;
	/** Only attempts with such a status code: `2xx`, `3xx`, `4xx`, `5xx`, or `none` for those without a response. */
	statusClass?: string;
	/** Only attempts with this `error`, or with one that begins with it and a colon: `tls` finds `tls: certificate expired`. */
	error?: string;
	/** Only attempts made at this time or later. */
	since?: string;
	/** Only attempts made at this time or earlier. */
	until?: string;
	/** The id of a delivery that is kept, or what the `Link` header has. The list begins after it, with older ones. */
	before?: string;
	/** The size of the page. */
	limit?: number;
}

/** What getMissed can be asked for. */
export interface GetMissedQuery {
	/** The time of acceptance of the first event. The default is that of `POST …/recover`. */
	since?: string;
	/** The time of acceptance of the last event. Default: now. */
	until?: string;
	/** Only this event type. `test` is allowed. */
	eventType?: string;
	/** Only attempts with such a status code: `2xx`, `3xx`, `4xx`, `5xx`, or `none` for those without a response. */
	statusClass?: string;
	/** Only attempts with this `error`, or with one that begins with it and a colon: `tls` finds `tls: certificate expired`. */
	error?: string;
}

/** What getStats can be asked for. */
export interface GetStatsQuery {
	/** The id of one of the bot's webhooks. Default: all of them. */
	webhookId?: string;
	/** The start, RFC 3339. Default: 24 hours before `to`. */
	from?: string;
	/** The end, RFC 3339. Default: now. */
	to?: string;
	/**
	 * The length of a bucket: `1m`, `5m`, `15m`, `1h`, `6h` or `1d`. At most 1,000 buckets are answered. Those of less than
	 * an hour need a `from` within the last 24 hours. Default: `1m` for a span of up to 2 hours of the last 24, else `1h`
	 * for up to 8 days, else `1d`.
	 */
	bucket?: string;
}

/** What pollEvents can be asked for. */
export interface PollEventsQuery {
	/** The `cursor` of an earlier answer, or `latest` for events accepted from now on. Default: the oldest event that is kept. */
	after?: string;
	/** The most events to return. An answer also ends after 1 MiB or one larger event. */
	limit?: number;
	/** Event types, separated by commas. Default: all. */
	types?: string;
	/** How long to wait for an event when there is none, at most `30s`. Default: not at all. */
	wait?: string;
	/** Only events whose data has this `threadId`. May be repeated: any of the values will do. */
	threadId?: string[];
	/** Only events whose data has this `projectSlug`. May be repeated: any of the values will do. */
	projectSlug?: string[];
	/** Only events whose data has this `title`. May be repeated: any of the values will do. */
	title?: string[];
	/** Only events whose data has this `authorId`. May be repeated: any of the values will do. */
	authorId?: string[];
	/** Only events whose data has this `postId`. May be repeated: any of the values will do. */
	postId?: string[];
	/** Only events whose data has this `body`. May be repeated: any of the values will do. */
	body?: string[];
	/** Only events whose data has this `effortId`. May be repeated: any of the values will do. */
	effortId?: string[];
	/** Only events whose data has this `oldStatus`. May be repeated: any of the values will do. */
	oldStatus?: string[];
	/** Only events whose data has this `newStatus`. May be repeated: any of the values will do. */
	newStatus?: string[];
	/** Only events whose data has this `pageSlug`. May be repeated: any of the values will do. */
	pageSlug?: string[];
	/** Only events whose data has this `editorId`. May be repeated: any of the values will do. */
	editorId?: string[];
	/** Only events whose data has this `requestedBy`. May be repeated: any of the values will do. */
	requestedBy?: string[];
	/** Only events whose data has this `reviewId`. May be repeated: any of the values will do. */
	reviewId?: string[];
	/** Only events whose data has this `reviewerId`. May be repeated: any of the values will do. */
	reviewerId?: string[];
	/** Only events whose data has this `verdict`. May be repeated: any of the values will do. */
	verdict?: string[];
}

/** What listAudit can be asked for. */
export interface ListAuditQuery {
	/** The id of an entry. The list begins after it, with older ones. */
	before?: string;
}

export interface WebhookDetail {
	id: string;
	botId: string;
	/** What its owner calls it. Null when it has no name. */
	name: string | null;
	url: string;
	/** True when the stored URL cannot be decrypted with the service's keyset; `url` is its origin then. Absent otherwise. */
	unreadable?: boolean;
	/** Event types. */
	events: string[];
	/** Which events of these types it gets. Null when all. */
	filter: Record<string, (string | boolean | number)[]> | null;
	isActive: boolean;
	/** Whether its deliveries are made one at a time, in the order of acceptance. */
	ordered: boolean;
	/** Failed deliveries in a row; the tenth disables the webhook. */
	failureCount: number;
	/** When the first of the failed deliveries in a row was recorded. Null when the last delivery was successful. */
	failingSince: string | null;
	hasSecret: boolean;
	/** The names of the webhook's own headers, in order. Their values are never returned. */
	headerNames: string[];
	/** The public keys of the `v1a` signatures that deliveries have now, the present one first: `whpk_` and base64. Empty when there is no key pair. */
	publicKeys: string[];
	/** Whether the endpoint has answered a `webhook.verify` event with its nonce since the URL last changed. The rate of deliveries to an unverified endpoint is limited. */
	verified: boolean;
	/** When the endpoint was last verified. */
	verifiedAt: string | null;
	/** Set while an operator has paused the deliveries of this webhook. They wait, and are made afterwards. Null otherwise. */
	paused: WebhookPause | null;
	disabledAt: string | null;
	/** Who or what disabled it: `failures` (ten in a row), `owner` (a call of the bot API) or `operator` (a call of the service API). Null while it is active. */
	disabledReason: string | null;
	/** The delivery whose failure disabled it. */
	disabledBy: string | null;
	/** What the operator said who disabled it. Absent when nothing. */
	disabledNote?: string;
	createdAt: string;
	updatedAt: string;
	/** Until when the previous secret signs too. Absent when it does not. */
	secretOverlapUntil?: string;
	/** Some deliveries before this time were removed because the bot's history exceeded its budget. A recovery cannot go back further. Absent when nothing was removed. */
	historyRemovedBefore?: string;
	/** In the answer to a call that sets `url`, `events` or `filter`: the bot's oldest other webhook with the same URL and a common event type, whose filter lets common events pass. The endpoint receives these from both. Absent when there is none. */
	duplicateOf?: string;
	stats: Stats;
	/** The delivery recorded last. Null when none is kept. */
	lastDelivery: LastDelivery | null;
	/** The failed delivery recorded last. Null when none is kept. */
	lastError: LastDelivery | null;
}

export interface NewWebhook {
	url: string;
	name?: string;
	events: EventType[];
	filter?: Record<string, (string | boolean | number)[]>;
	secret?: string;
	headers?: Record<string, string | null>;
	/**
	 * Whether deliveries are made one at a time, in the order of acceptance: each begins only after the one before was
	 * taken, or given up after its last retry. Default: false.
	 */
	ordered?: boolean;
}

export interface Webhook {
	id: string;
	botId: string;
	/** What its owner calls it. Null when it has no name. */
	name: string | null;
	url: string;
	/** True when the stored URL cannot be decrypted with the service's keyset; `url` is its origin then. Absent otherwise. */
	unreadable?: boolean;
	/** Event types. */
	events: string[];
	/** Which events of these types it gets. Null when all. */
	filter: Record<string, (string | boolean | number)[]> | null;
	isActive: boolean;
	/** Whether its deliveries are made one at a time, in the order of acceptance. */
	ordered: boolean;
	/** Failed deliveries in a row; the tenth disables the webhook. */
	failureCount: number;
	/** When the first of the failed deliveries in a row was recorded. Null when the last delivery was successful. */
	failingSince: string | null;
	hasSecret: boolean;
	/** The names of the webhook's own headers, in order. Their values are never returned. */
	headerNames: string[];
	/** The public keys of the `v1a` signatures that deliveries have now, the present one first: `whpk_` and base64. Empty when there is no key pair. */
	publicKeys: string[];
	/** Whether the endpoint has answered a `webhook.verify` event with its nonce since the URL last changed. The rate of deliveries to an unverified endpoint is limited. */
	verified: boolean;
	/** When the endpoint was last verified. */
	verifiedAt: string | null;
	/** Set while an operator has paused the deliveries of this webhook. They wait, and are made afterwards. Null otherwise. */
	paused: WebhookPause | null;
	disabledAt: string | null;
	/** Who or what disabled it: `failures` (ten in a row), `owner` (a call of the bot API) or `operator` (a call of the service API). Null while it is active. */
	disabledReason: string | null;
	/** The delivery whose failure disabled it. */
	disabledBy: string | null;
	/** What the operator said who disabled it. Absent when nothing. */
	disabledNote?: string;
	createdAt: string;
	updatedAt: string;
	/** Until when the previous secret signs too. Absent when it does not. */
	secretOverlapUntil?: string;
	/** In the answer to a call that sets `url`, `events` or `filter`: the bot's oldest other webhook with the same URL and a common event type, whose filter lets common events pass. The endpoint receives these from both. Absent when there is none. */
	duplicateOf?: string;
}

export interface WebhookChange {
	url?: string;
	/** Null removes the name. */
	name?: string | null;
	events?: EventType[];
	/**
	 * The whole new filter; null and `{}` remove it. It holds for events accepted afterwards. A change of `events` after
	 * which the filter has a field that none of the event types has is refused.
	 */
	filter?: Record<string, (string | boolean | number)[]> | null;
	isActive?: boolean;
	secret?: string | null;
	/**
	 * With a new `secret`: how long the previous secret signs too, from 1s to 168h, such as `24h` or `1h30m`. During
	 * that time `webhook-signature` holds a signature of each; `X-Mathub-Signature` is the new secret's. Default: the
	 * previous secret stops signing at once.
	 */
	secretOverlap?: string;
	headers?: Record<string, string | null>;
	/**
	 * As for a new webhook. One that becomes ordered rests for ten seconds, in which deliveries end that have begun. While
	 * more than 10,000 deliveries wait, true answers 409.
	 */
	ordered?: boolean;
}

export interface TestRequest {
	/** The type of the sample: an event type that webhooks can subscribe to, or `test`. Default: `test`. */
	eventType?: string;
}

/** One POST of one event to one webhook. */
export interface Delivery {
	/** The X-Mathub-Delivery header. */
	id: string;
	webhookId: string;
	/** The webhook-id header. */
	eventId: string;
	eventType: string;
	/** The JSON that was sent, numbers digit for digit. */
	payload: Record<string, unknown>;
	attempt: number;
	/** Null when no response came. */
	statusCode: number | null;
	/** The first 4 KiB of the response's body. Null when no response came, or when `bodyDropped` is true. */
	responseBody: string | null;
	/** True when `responseBody`, `requestHeaders`, `responseHeaders` and `timings` were removed because the bot's history exceeded its budget. */
	bodyDropped: boolean;
	/** A short cause, such as `timeout`, `connection refused` or `HTTP 503`. Null on success. */
	error: string | null;
	success: boolean;
	/** The duration of the exchange, rounded up. */
	durationMs: number;
	attemptedAt: string;
	trigger: string;
}

export interface KeyRotation {
	/** How long the key before signs too, from 0s to 168h, such as `24h` or `1h30m`. Default: 24h. */
	overlap?: string;
}

export interface RetryRequest {
	/** The event whose attempt is made due. Default: all that wait. */
	eventId?: string;
}

export interface RetryResult {
	/** The attempts that were made due; 0 when nothing waited. */
	attempts: number;
}

export interface WaitingDelivery {
	/** Its place in the order in which deliveries are sent. */
	position: number;
	eventId: string;
	eventType: string;
	acceptedAt: string;
	/** The number of the next attempt. */
	attempt: number;
	/** What causes the attempt, as in the history. */
	trigger: string;
	/** When the attempt is due. A past time means now. Null: it waits for those before it, as the webhook is `ordered`. */
	nextAttemptAt: string | null;
}

/** A delivery in full. */
export interface DeliveryDetail {
	/** The X-Mathub-Delivery header. */
	id: string;
	webhookId: string;
	/** The webhook-id header. */
	eventId: string;
	eventType: string;
	/** The JSON that was sent, numbers digit for digit. */
	payload: Record<string, unknown>;
	attempt: number;
	/** Null when no response came. */
	statusCode: number | null;
	/** The first 4 KiB of the response's body. Null when no response came, or when `bodyDropped` is true. */
	responseBody: string | null;
	/** True when `responseBody`, `requestHeaders`, `responseHeaders` and `timings` were removed because the bot's history exceeded its budget. */
	bodyDropped: boolean;
	/** A short cause, such as `timeout`, `connection refused` or `HTTP 503`. Null on success. */
	error: string | null;
	success: boolean;
	/** The duration of the exchange, rounded up. */
	durationMs: number;
	attemptedAt: string;
	trigger: string;
	/**
	 * The request's headers. Without a connection: those that would have been sent. Signatures are not stored. Headers
	 * that HTTP itself needs, such as Host, are left out. Null when none are stored.
	 */
	requestHeaders: HeaderField[] | null;
	/**
	 * The response's headers, ordered by name, at most 50 and 4 KiB; the rest is left out. Headers that may hold a
	 * credential, such as Set-Cookie, are left out too. `***` replaces a repeated signature of the request and parts of
	 * the webhook's URL that may be a token. Bytes that are not UTF-8 are replaced. Null when no response came, or when
	 * none are stored.
	 */
	responseHeaders: HeaderField[] | null;
	/** Null when none are stored. */
	timings: Timings | null;
	/** The number of the next attempt, or of the one in flight. Null when none is planned. */
	nextAttempt: number | null;
	/** When the next attempt is due. A past time means now. Null when none is planned. */
	nextAttemptAt: string | null;
}

export interface Span {
	/** Default: 24 hours before the webhook was last disabled, which includes events that were being retried then; 24 hours ago if it never was. Never before the webhook's creation or the oldest event that is kept. */
	since?: string;
	/** Default: now. */
	until?: string;
	/** Only events of this type. Default: all. */
	eventType?: string;
	/** Only events of which an attempt failed with this `error`, or one that begins with it and a colon. Default: all, attempted or not. */
	error?: string;
	/** Only events of which an attempt got such a status code: `2xx`, `3xx`, `4xx`, `5xx`, or `none` for no response. Default: all, attempted or not. */
	statusClass?: string;
}

export interface Recovery {
	/** `running`, `completed`, `cancelled` or `stopped`. A recovery stops when its webhook is disabled or deleted. */
	state: string;
	/** The missed events found so far. */
	found: number;
	delivered: number;
	failed: number;
	/** Those that still wait. */
	remaining: number;
	/** Whether the search for missed events is complete; `found` is then final. */
	lookedThrough: boolean;
	/** The error of the last failed delivery, or why the recovery stopped. Null when there is none. */
	lastError: string | null;
	since: string;
	until: string;
	/** The filter of event types. Null for all. */
	eventType: string | null;
	/** The filter of errors. Null for all. */
	error: string | null;
	/** The filter of status codes. Null for all. */
	statusClass: string | null;
	startedAt: string;
	/** Null while the recovery runs. */
	endedAt: string | null;
}

export interface Missed {
	count: number;
	/** Whether the span has more events than were looked through: `count` is then the least. */
	atLeast: boolean;
	since: string;
	until: string;
	/** The first 50, oldest first. */
	events: MissedEvent[];
}

export interface DeliveryStats {
	from: string;
	to: string;
	/** The length of each bucket. */
	bucket: string;
	/** All buckets of the span, oldest first, empty ones too. */
	buckets: StatsBucket[];
}

export interface FilterTrial {
	events: EventType[];
	filter: Record<string, (string | boolean | number)[]>;
}

export interface FilterPreview {
	/** How many events were looked at: the last of these types that concern the bot, at most 100. */
	events: number;
	/** How many of them pass the filter. */
	matching: number;
}

export interface EventPage {
	events: MathubEvent[];
	/** Pass it as `after` of the next call. Opaque; it may advance without events. */
	cursor: string;
	/** Whether there may be more events: call again at once. */
	hasMore: boolean;
}

export interface Bot {
	id: string;
	name: string;
	/** False when the bot is suspended: it receives nothing, and its keys answer 403. */
	isActive: boolean;
	/** Since when it is suspended. Absent while it is active. */
	suspendedAt?: string;
	/** Why, if the operator said so. Absent otherwise. */
	suspendedReason?: string;
	createdAt: string;
	/** The URL that is notified of webhooks that fail. */
	notifyUrl: string | null;
	/** True when `notifyUrl` is null because the stored URL cannot be decrypted with the service's keyset. Absent otherwise. */
	unreadable?: boolean;
	/** The secret that signs notifications. Only in the answer to the call that sets `notifyUrl` without one; not shown again. */
	notifySecret?: string;
}

export interface NotifyChange {
	notifyUrl?: string | null;
	notifySecret?: string;
}

export interface NotificationTest {
	/** Whether the endpoint answered 2xx within 5 seconds. */
	delivered: boolean;
	/** Null: no response came. */
	statusCode: number | null;
	/** Why it was not delivered, such as `timeout` or `HTTP 503`. */
	error: string | null;
}

export interface EventTypeInfo {
	type: string;
	/** `broadcast`: every subscribed webhook receives it. `targeted`: those of the bots that it concerns. */
	audience: string;
	description: string;
	/** An example of the event's `data`. */
	sample: Record<string, unknown>;
}

export interface KeyInfo {
	id: string;
	botId: string;
	/** What the key is for, as its maker named it. It may be empty. */
	name: string;
	/** How the key begins: ten characters. */
	prefix: string;
	createdAt: string;
	createdBy: KeyCreator;
	/** When a call last used it, to the minute. Null: none has. */
	lastUsedAt: string | null;
}

export interface NewKey {
	/** What the key is for, without control or invisible characters. It may be empty. */
	name?: string;
}

export interface Key {
	id: string;
	botId: string;
	name: string;
	/** How the key begins: ten characters, by which it is known in lists. */
	prefix: string;
	/** The key, `bot_…`. It is not shown again. */
	key: string;
	createdAt: string;
}

export interface NewPortalLink {
	/** What its sessions may do. `view` changes nothing. */
	role?: "manage" | "view";
	/** For how long the link works unless it is used: 1s to 10m. */
	ttl?: string;
	/** The page that it leads to: a path below /portal. Default: the list of webhooks. */
	next?: string;
	/** Whom it is for, without control or invisible characters. Lists of sessions show it. */
	label?: string;
}

export interface PortalLink {
	/** The link. Whoever has it is signed in. It works once and is not shown again. */
	url: string;
	expiresAt: string;
}

export interface AuditEntry {
	id: string;
	at: string;
	botId: string;
	/** What was done, such as `webhook.disabled` or `key.revoked`. */
	action: string;
	/** The id of the webhook, key, portal link or portal session that was changed; `null` for the bot itself. */
	subject: string | null;
	actor: Actor;
	/** The changed fields as they were; `null` for what was created. */
	before: Record<string, unknown> | null;
	/** The changed fields as they became; `null` for what was deleted. */
	after: Record<string, unknown> | null;
}

export interface WebhookPause {
	since: string;
	/** What the operator says. */
	reason: string;
}

/** Statistics of the present hour and the 23 hours before it, in UTC. */
export interface Stats {
	/** The number of deliveries. */
	deliveries24h: number;
	/** The fraction that succeeded, to four digits. Null without deliveries. */
	successRate24h: number | null;
	/** The 95th percentile of their durations, in milliseconds, to an eighth. Null without deliveries. */
	p95DurationMs24h: number | null;
	/** The deliveries of each of the 24 hours, the present hour last. */
	hours24h: HourCount[];
}

/** A delivery in short. */
export interface LastDelivery {
	id: string;
	eventId: string;
	eventType: string;
	attempt: number;
	success: boolean;
	/** Null when no response came. */
	statusCode: number | null;
	/** Null on success. */
	error: string | null;
	durationMs: number;
	attemptedAt: string;
}

export interface HeaderField {
	name: string;
	value: string;
}

/**
 * The durations of the phases, in milliseconds. A phase that did not happen or did not finish is null, for example dns,
 * connect and tls on a reused connection.
 */
export interface Timings {
	/** The DNS lookup. */
	dns: number | null;
	/** The TCP connection. */
	connect: number | null;
	/** The TLS handshake. */
	tls: number | null;
	/** From the start of the exchange to the response's first byte. */
	firstByte: number | null;
	/** The whole exchange. `durationMs` is this, rounded up. */
	total: number;
}

export interface MissedEvent {
	eventId: string;
	eventType: string;
	acceptedAt: string;
	/** The attempts that failed; 0 when the webhook was disabled. */
	attempts: number;
}

export interface StatsBucket {
	start: string;
	/** Deliveries that succeeded. */
	delivered: number;
	/** Deliveries that failed. */
	failed: number;
	/** The median of the durations, in milliseconds, to an eighth. Null without deliveries. */
	p50: number | null;
	/** Their 95th percentile. Null without deliveries. */
	p95: number | null;
	/** Failures by the kind of their error: `blocked`, `connect_timeout`, `connection`, `dns`, `http_3xx`, `http_4xx`, `http_429`, `http_5xx`, `http_other`, `response`, `timeout`, `tls`, `unreachable` or `other`. */
	byError: Record<string, number>;
	/** Deliveries by event type. */
	byType: Record<string, number>;
}

/** Who made a key. */
export interface KeyCreator {
	/** As an actor's of the audit log: `key`, `portal`, `service` or `operator`. */
	kind: string;
	/** Who stands behind it, as far as that is known. The bot API names no operator. */
	name: string | null;
}

export interface Actor {
	/** `key`: a key of the bot. `portal`: a session of the portal. `service`: Mathub's backend. `operator`: the command line. `system`: the product itself. */
	kind: string;
	/** The key's or the session's id. */
	id: string | null;
	/** Who stands behind it, as far as that is known: a key's name or beginning, whom a session's link was for, or else what opened the session. The bot API names no operator. */
	name: string | null;
	/** The key that opened the portal session, or that made its link. */
	keyId: string | null;
	/** The link that opened the portal session. */
	linkId: string | null;
	/** The client's address; of the bot's own calls only. */
	client: string | null;
	/** The call's `X-Request-Id`. */
	requestId: string | null;
}

export interface HourCount {
	delivered: number;
	failed: number;
}
