// One signed POST over kept-alive connections: the same Standard Webhooks request that actionflow makes.
import { createHmac } from "node:crypto";
import { Pool } from "undici";

/** Requests in flight, the same for every peer. */
export const CONCURRENCY = 64;

const target = new URL(process.env.BENCH_RECEIVER);
const key = Buffer.from(process.env.BENCH_SECRET.replace(/^whsec_/, ""), "base64");
const receiver = new Pool(target.origin, { connections: CONCURRENCY, pipelining: 1 });

/** Resolves once the receiver has answered 200, as actionflow's default demands; throws otherwise. */
export async function deliver(id, payload) {
  const body = JSON.stringify(payload);
  const timestamp = Math.floor(Date.now() / 1000);
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  const answer = await receiver.request({
    method: "POST",
    path: target.pathname,
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": `v1,${signature}`,
    },
    body,
  });
  // The connection is reused only after the body has been consumed.
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
}
