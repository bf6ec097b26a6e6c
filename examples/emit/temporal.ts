// Emits an event by starting its workflow: npm ci, then npx tsx temporal.ts
// TEMPORAL_ADDRESS says where Temporal is (127.0.0.1:7233).
import { Client, Connection, WorkflowExecutionAlreadyStartedError } from "@temporalio/client";

const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? "127.0.0.1:7233" });
const client = new Client({ connection });

// Derived from what happened: whoever emits it again, after an error or a crash, emits the same event.
const id = process.env.EVENT_ID ?? "post-created-pst_1";

const event = {
  id,
  event: "post.created",
  timestamp: new Date().toISOString(),
  data: { postId: "pst_1", threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
};

try {
  await client.workflow.start("DeliverEvent", {
    taskQueue: "mathub-webhooks",
    workflowId: `event-${id}`,
    workflowIdReusePolicy: "ALLOW_DUPLICATE_FAILED_ONLY", // only an invalid event fails, and may be emitted mended
    args: [event],
  });
  console.log("accepted", id);
} catch (error) {
  if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  console.log("accepted before", id);
} finally {
  await connection.close();
}
