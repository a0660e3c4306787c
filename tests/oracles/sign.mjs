// Signs webhooks as their senders do, and verifies them as their receivers do, with libraries that are not ours.
//
// Jobs and results are those of sign.py.

import { sign } from 'node:crypto';
import * as octokit from '@octokit/webhooks-methods';
import * as sanity from '@sanity/webhook';
import sendgrid from '@sendgrid/eventwebhook';
import discord from 'discord-interactions';
import * as standard from 'standardwebhooks';
import Stripe from 'stripe';
import * as svix from 'svix';

const date = job => new Date(job.time * 1000);
const stripe = new Stripe('sk_test_none');

const libraries = {
  discord: {
    // The library only verifies; PyNaCl signs.
    verify: (job, headers) =>
      discord.verifyKey(job.body, headers['x-signature-ed25519'], headers['x-signature-timestamp'], job.secret),
  },
  octokit: {
    sign: async job => ({ 'x-hub-signature-256': await octokit.sign(job.secret, job.body), 'x-github-delivery': job.id }),
    verify: (job, headers) => octokit.verify(job.secret, job.body, headers['x-hub-signature-256']),
  },
  sanity: {
    sign: async job => ({
      'sanity-webhook-signature': await sanity.encodeSignatureHeader(job.body, job.time * 1000, job.secret),
    }),
    verify: (job, headers) => sanity.isValidSignature(job.body, headers['sanity-webhook-signature'], job.secret),
  },
  sendgrid: {
    // The library only verifies.
    sign: job => ({
      'x-twilio-email-event-webhook-signature': sign('sha256', Buffer.from(`${job.time}${job.body}`), job.key).toString('base64'),
      'x-twilio-email-event-webhook-timestamp': String(job.time),
    }),
    verify: (job, headers) => {
      const verifier = new sendgrid.EventWebhook();
      return verifier.verifySignature(
        verifier.convertPublicKeyToECDSA(job.secret),
        job.body,
        headers['x-twilio-email-event-webhook-signature'],
        headers['x-twilio-email-event-webhook-timestamp'],
      );
    },
  },
  standardwebhooks: {
    sign: job => ({
      'webhook-id': job.id,
      'webhook-timestamp': String(job.time),
      'webhook-signature': new standard.Webhook(job.secret).sign(job.id, date(job), job.body),
    }),
    verify: (job, headers) => {
      new standard.Webhook(job.secret).verify(job.body, headers);
      return true;
    },
  },
  stripe: {
    sign: job => ({
      'stripe-signature': stripe.webhooks.generateTestHeaderString({
        payload: job.body,
        secret: job.secret,
        timestamp: job.time,
      }),
    }),
    verify: (job, headers) => {
      stripe.webhooks.signature.verifyHeader(job.body, headers['stripe-signature'], job.secret, 300);
      return true;
    },
  },
  svix: {
    sign: job => ({
      'svix-id': job.id,
      'svix-timestamp': String(job.time),
      'svix-signature': new svix.Webhook(job.secret).sign(job.id, date(job), job.body),
    }),
    verify: (job, headers) => {
      new svix.Webhook(job.secret).verify(job.body, headers);
      return true;
    },
  },
};

async function result(job) {
  const library = libraries[job.library];
  if (job.task === 'sign') {
    return library.sign(job);
  }
  try {
    return await library.verify(job, job.headers);
  } catch {
    // Their ways to say no are as many as they are.
    return false;
  }
}

let input = '';
for await (const chunk of process.stdin) {
  input += chunk;
}
const results = [];
for (const job of JSON.parse(input)) {
  results.push(await result(job));
}
process.stdout.write(JSON.stringify(results));
