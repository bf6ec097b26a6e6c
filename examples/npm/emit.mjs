// Emits an event over the service API: npm install @mathub/webhooks, then node emit.mjs
// MATHUB_API says where the API is (http://127.0.0.1:8080), MATHUB_SERVICE_TOKEN is the service token.
import { emit } from "@mathub/webhooks";

const { MATHUB_API: url = "http://127.0.0.1:8080", MATHUB_SERVICE_TOKEN: token = "", EVENT_ID } = process.env;

const receipt = await emit({ url, token }, {
  id: EVENT_ID ?? "post-created-pst_1", // derived from what happened: emitting it again, after an error or a crash, delivers it once
  event: "post.created",
  timestamp: new Date().toISOString(),
  data: { postId: "pst_1", threadId: "thr_1", body: "The bound in (3) can be improved.", authorId: "usr_1" },
});
console.log(receipt.duplicate ? "accepted before" : "accepted", receipt.id);
