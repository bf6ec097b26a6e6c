// Emits several events at once by starting their workflow: npm ci, then npx tsx temporal-batch.ts
// TEMPORAL_ADDRESS says where Temporal is (127.0.0.1:7233).
import { Client, Connection, WorkflowExecutionAlreadyStartedError } from "@temporalio/client";
import { randomUUID } from "node:crypto";

const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? "127.0.0.1:7233" });
const client = new Client({ connection });

// Derived from what happened: whoever emits one again, by whatever workflow, emits the same event, which is delivered once.
const ids = (process.env.EVENT_IDS ?? "post-created-pst_1,post-created-pst_2").split(",");

// Up to 100 events, of 1 MiB of JSON in all.
const events = ids.map((id, i) => ({
  id,
  event: "post.created",
  timestamp: new Date().toISOString(),
  data: { postId: `pst_${i + 1}`, threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
}));

// The workflow's own id must not begin with "event-".
const workflowId = `events-${randomUUID()}`;
try {
  await client.workflow.start("DeliverEvents", { taskQueue: "mathub-webhooks", workflowId, args: [events] });
} catch (error) {
  if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error; // a try before this one has started it
} finally {
  await connection.close();
}
console.log("accepted", ids.join(","), "by", workflowId);
