/** What the adapter sends of its own: both take what they are given and do nothing. */
import { task } from "@trigger.dev/sdk";

/** Shows, once a minute, that the way there and back is whole. */
export const adapterCanary = task({ id: "adapter-canary", retry: { maxAttempts: 1 }, run: async () => {} });

/** Takes the copies of `adapter cutover shadow … --mode enqueue`, whatever task they are of. */
export const adapterShadow = task({ id: "adapter-shadow", retry: { maxAttempts: 1 }, run: async () => {} });
