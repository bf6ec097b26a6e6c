// A backend whose event follows its transaction: npm install @mathub/webhooks pg, then node outbox.mjs
// MATHUB_OUTBOX_URL is the backend's Postgres. It has the table mathub_outbox: mathub-webhooks relay --print-schema | psql "$MATHUB_OUTBOX_URL"
// `mathub-webhooks relay` emits what is committed.
import pg from "pg";
import { storeEvent } from "@mathub/webhooks";

const { MATHUB_OUTBOX_URL, POST_ID = "pst_1" } = process.env;
const pool = new pg.Pool({ connectionString: MATHUB_OUTBOX_URL });
const post = { id: POST_ID, body: "The bound in (3) can be improved." };

const client = await pool.connect();
try {
  await client.query("BEGIN");
  await client.query("INSERT INTO posts (id, body) VALUES ($1, $2)", [post.id, post.body]);
  await storeEvent(client, { id: `post-created-${post.id}`, event: "post.created", data: { postId: post.id, body: post.body } });
  await client.query("COMMIT"); // both are there now, or neither
  console.log("stored", post.id);
} catch (error) {
  await client.query("ROLLBACK");
  throw error;
} finally {
  client.release();
  await pool.end();
}
