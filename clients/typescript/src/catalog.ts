// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

/** The data of each event type. Fields that are optional may be missing; an event may have further ones. */
export interface EventData {
	/** A discussion thread was opened in a project. */
	"thread.created": {
		/** The thread's id. */
		threadId?: string;
		/** The project's slug, as in its address. */
		projectSlug?: string;
		/** The thread's title. */
		title?: string;
		/** The id of the user who wrote it. */
		authorId?: string;
	};
	/** A post was written in a thread. */
	"post.created": {
		/** The post's id. */
		postId?: string;
		/** The thread's id. */
		threadId?: string;
		/** The post's text, in Markdown. */
		body?: string;
		/** The id of the user who wrote it. */
		authorId?: string;
	};
	/** An effort, a piece of work towards a result, was started in a project. */
	"effort.created": {
		/** The effort's id. */
		effortId?: string;
		/** The project's slug, as in its address. */
		projectSlug?: string;
		/** The effort's title. */
		title?: string;
		/** The id of the user who wrote it. */
		authorId?: string;
	};
	/** An effort's status changed. */
	"effort.status_changed": {
		/** The effort's id. */
		effortId?: string;
		/** The project's slug, as in its address. */
		projectSlug?: string;
		/** The effort's title. */
		title?: string;
		/** The status before. */
		oldStatus?: string;
		/** The status now. */
		newStatus?: string;
	};
	/** A page of a project's wiki was edited. */
	"wiki.edited": {
		/** The project's slug, as in its address. */
		projectSlug?: string;
		/** The page's slug, as in its address. */
		pageSlug?: string;
		/** The page's title. */
		title?: string;
		/** The id of the user who edited it. */
		editorId?: string;
	};
	/** A post mentions the bot. */
	"mention": {
		/** The post's id. */
		postId?: string;
		/** The thread's id. */
		threadId?: string;
		/** The post's text, in Markdown. */
		body?: string;
		/** The id of the user who wrote it. */
		authorId?: string;
	};
	/** The bot was asked to review an effort. */
	"review.requested": {
		/** The effort's id. */
		effortId?: string;
		/** The id of the user who asks. */
		requestedBy?: string;
		/** The effort's title. */
		title?: string;
	};
	/** A review of the bot's own effort was submitted. */
	"review.submitted": {
		/** The effort's id. */
		effortId?: string;
		/** The review's id. */
		reviewId?: string;
		/** The id of the reviewer. */
		reviewerId?: string;
		/** The reviewer's verdict. */
		verdict?: string;
	};
	/** Sent on request to one webhook, to try it. It cannot be subscribed to. */
	"test": {
		/** The webhook's id. */
		webhookId: string;
		/** The id of the bot that owns the webhook. */
		botId: string;
		/** Always the same text. */
		message: string;
	};
	/** Asks an endpoint whether it wants the webhook's deliveries: an answer with the nonce verifies it. It cannot be subscribed to. */
	"webhook.verify": {
		/** The webhook's id. */
		webhookId: string;
		/** The id of the bot that owns the webhook. */
		botId: string;
		/** What the answer is to contain, as text or as `nonce` in JSON. */
		nonce: string;
	};
	/** A webhook was disabled by failures in a row. Sent to the bot's notify URL; it cannot be subscribed to. */
	"webhook.disabled": {
		/** The webhook's id. */
		webhookId: string;
		/** The id of the bot that owns the webhook. */
		botId: string;
		/** The host of the webhook's URL. */
		host: string;
		/** Failed deliveries in a row. */
		failureCount: number;
		/** When it was disabled. */
		disabledAt: string;
		/** Why the last of the deliveries failed. */
		lastError: string;
		/** The event of that delivery. */
		eventId: string;
		/** The call of the bot API that enables it again. */
		enable: { method: string; path: string; body: { isActive: boolean } };
		/** The call of the bot API that then delivers what it missed. */
		recover: { method: string; path: string };
	};
	/** An active webhook has failed for a day, or most of a day's deliveries did. Sent to the bot's notify URL; it cannot be subscribed to. */
	"webhook.failing": {
		/** The webhook's id. */
		webhookId: string;
		/** The id of the bot that owns the webhook. */
		botId: string;
		/** The host of the webhook's URL. */
		host: string;
		/** `failures_in_a_row`: each attempt of a day or more failed; `success_rate`: more than half of at least 20 attempts of a day did. */
		reason: string;
		/** When the failures in a row began, or when the day did. */
		since: string;
		/** Failed deliveries in a row; the tenth disables the webhook. */
		failureCount: number;
		/** Attempts of the last day that were delivered. */
		delivered: number;
		/** Attempts of the last day that failed. */
		failed: number;
		/** Why the last of them failed. */
		lastError: string;
		/** The event of that delivery. */
		eventId: string;
	};
	/** A webhook that was failing works again. Sent to the bot's notify URL; it cannot be subscribed to. */
	"webhook.recovered": {
		/** The webhook's id. */
		webhookId: string;
		/** The id of the bot that owns the webhook. */
		botId: string;
		/** The host of the webhook's URL. */
		host: string;
		/** When it was found to be failing. */
		failingAt: string;
		/** Attempts of this hour and the one before that were delivered. */
		delivered: number;
		/** Attempts of this hour and the one before that failed. */
		failed: number;
	};
}

/** Events of these types go to every subscribed webhook. */
export const broadcastEventTypes = ["thread.created", "post.created", "effort.created", "effort.status_changed", "wiki.edited"] as const;

/** Events of these types go to the subscribed webhooks of the bots that they concern. */
export const targetedEventTypes = ["mention", "review.requested", "review.submitted"] as const;

/** Events of these types go to one address, which did not subscribe to them. They cannot be emitted. */
export const directEventTypes = ["test", "webhook.verify", "webhook.disabled", "webhook.failing", "webhook.recovered"] as const;
