// Emits several events over the service API: npm install @mathub/webhooks, then node emit-batch.mjs
// MATHUB_API says where the API is (http://127.0.0.1:8080), MATHUB_SERVICE_TOKEN is the service token.
import { batches, emitBatch } from "@mathub/webhooks";

const { MATHUB_API: url = "http://127.0.0.1:8080", MATHUB_SERVICE_TOKEN: token = "", EVENT_IDS = "post-created-pst_1,post-created-pst_2" } = process.env;

const events = EVENT_IDS.split(",").map((id, i) => ({
  id, // derived from what happened: emitting it again, after an error or a crash, delivers it once
  event: "post.created",
  timestamp: new Date().toISOString(),
  data: { postId: `pst_${i + 1}`, threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
}));

// However many there are: of up to 100 events, of 1 MiB in all, the service accepts all or none.
for (const batch of batches(events)) {
  for (const receipt of await emitBatch({ url, token }, batch)) console.log(receipt.duplicate ? "accepted before" : "accepted", receipt.id);
}
