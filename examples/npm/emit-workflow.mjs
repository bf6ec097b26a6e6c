// Emits an event by starting its workflow: npm install @mathub/webhooks @temporalio/client, then node emit-workflow.mjs
// TEMPORAL_ADDRESS says where Temporal is (127.0.0.1:7233).
import { emitWorkflow } from "@mathub/webhooks";
import { Client, Connection } from "@temporalio/client";

const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? "127.0.0.1:7233" });

const receipt = await emitWorkflow(new Client({ connection }), {
  id: process.env.EVENT_ID ?? "post-created-pst_1", // derived from what happened: emitting it again, after an error or a crash, delivers it once
  event: "post.created",
  timestamp: new Date().toISOString(),
  data: { postId: "pst_1", threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
});
console.log(receipt.duplicate ? "accepted before" : "accepted", receipt.id);
await connection.close();
