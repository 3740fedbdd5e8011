/** Trigger.dev loads this file before any task. The fence comes first: the first middleware is the outermost. */
import { registerStartFence } from "../adapter/fence.js";
import { registerAdapterHooks } from "../adapter/hooks.js";

registerStartFence();
registerAdapterHooks();
