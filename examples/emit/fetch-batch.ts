// Emits several events at once over the service API: npm ci, then npx tsx fetch-batch.ts
// MATHUB_API says where the API is (http://127.0.0.1:8080), MATHUB_SERVICE_TOKEN is the service token.
import { setTimeout as sleep } from "node:timers/promises";

interface Event {
  id: string; // derived from what happened: whoever emits it again, after an error or a crash, emits the same event
  event: string;
  timestamp: string;
  data: Record<string, unknown>;
  botIds?: string[]; // the audience: required for mention, review.requested and review.submitted
}

interface Receipt {
  id: string;
  workflowId: string; // events that were emitted at once share one
  duplicate: boolean;
}

/**
 * Emits up to 100 events, of 1 MiB of JSON in all: the service accepts all of them, or none. While it is away or busy,
 * they are emitted again with the same ids, until the deadline (ms since 1970). No id may stand twice among them.
 */
async function emitBatch(events: Event[], deadline: number): Promise<Receipt[]> {
  for (let pause = 100; ; pause = Math.min(2 * pause, 10_000)) {
    let wait = pause;
    let trouble: string;
    try {
      const response = await fetch(`${process.env.MATHUB_API ?? "http://127.0.0.1:8080"}/api/internal/v1/events/batch`, {
        method: "POST",
        headers: { authorization: `Bearer ${process.env.MATHUB_SERVICE_TOKEN}`, "content-type": "application/json" },
        body: JSON.stringify({ events }),
        signal: AbortSignal.timeout(20_000),
      });
      if (response.status === 202) return (await response.json()) as Receipt[];
      trouble = `HTTP ${response.status}: ${await response.text()}`;
      if (response.status < 500 && response.status !== 429) throw new RefusedError(trouble);
      wait = Math.max(wait, 1000 * (Number(response.headers.get("retry-after")) || 0));
    } catch (error) {
      if (error instanceof RefusedError) throw error; // an event is at fault, or the token: again would be in vain
      trouble = String(error);
    }
    if (Date.now() + wait > deadline) throw new Error(`not accepted in time; the last answer: ${trouble}`);
    await sleep(wait);
  }
}

class RefusedError extends Error {}

const ids = (process.env.EVENT_IDS ?? "post-created-pst_1,post-created-pst_2").split(",");
const receipts = await emitBatch(
  ids.map((id, i) => ({
    id,
    event: "post.created",
    timestamp: new Date().toISOString(),
    data: { postId: `pst_${i + 1}`, threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
  })),
  Date.now() + 60_000,
);
for (const receipt of receipts) console.log(receipt.duplicate ? "accepted before" : "accepted", receipt.id);
