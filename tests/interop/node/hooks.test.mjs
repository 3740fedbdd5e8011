// The example's fence and hooks, against a small HTTP server, and inside the SDK's own task executor.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, mock, test } from "node:test";
import { lifecycleHooks } from "@trigger.dev/core/v3";
import { StandardLifecycleHooksManager, TaskExecutor } from "@trigger.dev/core/v3/workers";

const { EXAMPLE_BUILD, SIGNING_VECTORS, RECORDED_REQUESTS } = process.env;
const { jobOf, limits, messageId, sign } = await import(`${EXAMPLE_BUILD}/adapter/client.js`);
const { claimStart, registerStartFence, StartRefusedError } = await import(`${EXAMPLE_BUILD}/adapter/fence.js`);
const { registerAdapterHooks, report, sendable } = await import(`${EXAMPLE_BUILD}/adapter/hooks.js`);

const JOB = { id: "019ab3c4-0000-7000-8000-00000000beef", epoch: 2 };
const TAG = `job:${JOB.id}:${JOB.epoch}`;
const SECRET = "whsec_" + Buffer.from("a secret that only this test knows").toString("base64");

/** Everything any test sent: the signatures are checked by another library, in another language. */
const everything = [];
/** What arrived since the test began, oldest first. */
let requests = [];
/** Answers to give, in order; the last one is given for ever. */
let answers = [];
let server;
let base;

before(async () => {
  Object.assign(limits, { timeoutMs: 500, backoffMs: 5 });
  mock.method(console, "warn", () => {});
  server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const seen = { path: request.url, headers: request.headers, body };
    requests.push(seen);
    everything.push(seen);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === "hang") return;
    if (answer === "reset") return request.socket.destroy();
    response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
    response.end(answer.text ?? JSON.stringify(answer.body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});

beforeEach(() => {
  process.env.ADAPTER_URL = base;
  process.env.ADAPTER_WEBHOOK_SECRET = SECRET;
  requests = [];
  answers = [{ status: 200, body: { claimed: true } }];
  console.warn.mock.resetCalls();
});

after(() => {
  server.close();
  server.closeAllConnections();
  writeFileSync(RECORDED_REQUESTS, JSON.stringify({ secret: SECRET, requests: everything }));
});

function context({ tags = [TAG], attempt = 1, run = "run_1" } = {}) {
  return {
    task: { id: "process-large-dataset", filePath: "src/trigger/processLargeDataset.ts" },
    attempt: { number: attempt, startedAt: new Date("2026-11-22T10:00:01Z") },
    run: { id: run, tags, startedAt: new Date("2026-11-22T10:00:00Z"), createdAt: new Date("2026-11-22T09:59:59Z") },
  };
}

const sent = (index) => JSON.parse(requests.at(index).body);
const paths = () => requests.map((request) => request.path);

describe("client", () => {
  test("signs as the Python library does", () => {
    for (const { secret, id, timestamp, body, signature } of JSON.parse(readFileSync(SIGNING_VECTORS, "utf8"))) {
      assert.equal(sign(secret, id, timestamp, body), signature);
    }
  });

  test("a secret that is no base64 is said, not used", () => {
    for (const secret of ["", "whsec_", "whsec_not base64!", "whsec_abc"]) {
      assert.throws(() => sign(secret, "id", 1, "{}"), /whsec_/);
    }
  });

  test("the job is read from its tag, and from nothing like it", () => {
    assert.deepEqual(jobOf(["vip", TAG]), JOB);
    for (const tag of ["job:1:1", `job:${JOB.id}`, `job:${JOB.id}:0`, `job:${JOB.id}:1x`, `xjob:${JOB.id}:1`]) {
      assert.equal(jobOf([tag]), undefined, tag);
    }
    assert.equal(jobOf([]), undefined);
  });

  test("the id of a message depends on run, attempt and kind, and on nothing else", () => {
    const id = messageId(context(), "RUN_FAILED");
    assert.match(id, /^[0-9a-f]{64}$/);
    assert.equal(messageId(context({ tags: [] }), "RUN_FAILED"), id);
    const others = [
      messageId(context({ attempt: 2 }), "RUN_FAILED"),
      messageId(context({ run: "run_2" }), "RUN_FAILED"),
      messageId(context(), "RUN_STARTED"),
    ];
    assert.equal(new Set([id, ...others]).size, 4);
  });
});

describe("fence", () => {
  test("asks with job and run, and lets go", async () => {
    await claimStart(context({ attempt: 3 }));
    assert.deepEqual(paths(), ["/api/trigger/claim"]);
    assert.deepEqual(sent(0), { job: JOB, run: { id: "run_1", attempt: 3 } });
  });

  test("a slash at the end of ADAPTER_URL does no harm", async () => {
    process.env.ADAPTER_URL = `${base}/`;
    await claimStart(context());
    assert.deepEqual(paths(), ["/api/trigger/claim"]);
  });

  test("a run of no job is let go unasked", async () => {
    delete process.env.ADAPTER_URL;
    await claimStart(context({ tags: ["vip"] }));
    assert.equal(requests.length, 0);
  });

  test("a refusal is final, and known as such by its name", async () => {
    answers = [{ status: 409, body: { claimed: false, reason: "stale_epoch" } }];
    await assert.rejects(claimStart(context()), (error) => {
      assert.ok(error instanceof StartRefusedError);
      assert.equal(error.name, "AbortTaskRunError");
      assert.equal(error.reason, "stale_epoch");
      return true;
    });
    assert.equal(requests.length, 1);
  });

  test("a tombstone never runs, and nobody is asked", async () => {
    await assert.rejects(claimStart(context({ tags: [`tombstone:${JOB.id}:2`] })), StartRefusedError);
    assert.equal(requests.length, 0);
  });

  for (const [name, answer, tries] of [
    ["an error of the adapter", { status: 500, body: {} }, 3],
    ["too many requests", { status: 429, body: {} }, 3],
    ["a lost connection", "reset", 3],
    ["no answer in time", "hang", 3],
    ["a wrong secret", { status: 401, body: { error: "Invalid signature" } }, 1],
    ["an unknown path", { status: 404, text: "not here" }, 1],
    ["somebody else's 200", { status: 200, text: "<html>welcome</html>" }, 1],
    ["somebody else's 409", { status: 409, body: { error: "conflict" } }, 1],
    ["a claim neither granted nor refused", { status: 200, body: { claimed: "yes" } }, 1],
    ["a redirect", { status: 302, body: {}, headers: { location: "/api/trigger/claim" } }, 1],
  ]) {
    test(`${name} is no yes, and the run may ask again`, async () => {
      limits.timeoutMs = answer === "hang" ? 50 : 500;
      answers = [answer];
      await assert.rejects(claimStart(context()), (error) => {
        assert.ok(!(error instanceof StartRefusedError));
        assert.notEqual(error.name, "AbortTaskRunError");
        return true;
      });
      assert.equal(requests.length, tries);
      limits.timeoutMs = 500;
    });
  }

  test("nobody listening, and nothing configured, are no yes either", async () => {
    process.env.ADAPTER_URL = "http://127.0.0.1:9";
    await assert.rejects(claimStart(context()), { name: "AdapterUnreachableError" });
    delete process.env.ADAPTER_URL;
    await assert.rejects(claimStart(context()), /ADAPTER_URL is not set/);
  });

  test("a short outage is sat out under one id", async () => {
    answers = [{ status: 503, body: {} }, "reset", { status: 200, body: { claimed: true } }];
    await claimStart(context());
    assert.equal(requests.length, 3);
    assert.equal(new Set(requests.map((request) => request.headers["webhook-id"])).size, 1);
  });
});

describe("hooks", () => {
  test("an event says what the adapter needs", async () => {
    answers = [{ status: 202, body: {} }];
    await report("RUN_COMPLETED", context({ tags: ["vip", TAG], attempt: 2 }), sendable({ n: 1, text: "größer ☂" }));
    assert.deepEqual(paths(), ["/api/trigger/webhook"]);
    const { timestamp, ...event } = sent(0);
    assert.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 60_000);
    assert.deepEqual(event, {
      type: "RUN_COMPLETED",
      data: {
        source: "hook",
        run: {
          id: "run_1",
          status: "COMPLETED",
          taskIdentifier: "process-large-dataset",
          attempt: 2,
          tags: ["vip", TAG],
          startedAt: "2026-11-22T10:00:00.000Z",
          finishedAt: timestamp,
          output: { n: 1, text: "größer ☂" },
        },
        job: JOB,
      },
    });
    assert.equal(requests[0].headers["webhook-id"], messageId(context({ attempt: 2 }), "RUN_COMPLETED"));
  });

  test("the three other kinds", async () => {
    await report("RUN_STARTED", context());
    await report("RUN_FAILED", context(), { error: { name: "TypeError", message: "no", stack: "at" } });
    await report("RUN_CANCELED", context());
    const runs = [0, 1, 2].map((index) => sent(index).data.run);
    assert.deepEqual(runs.map((run) => run.status), ["EXECUTING", "FAILED", "CANCELED"]);
    assert.deepEqual(runs.map((run) => "finishedAt" in run), [false, true, true]);
    assert.deepEqual(runs[1].error, { name: "TypeError", message: "no", stack: "at" });
  });

  test("an output is sent when it is small and JSON says all of it", () => {
    const circle = {};
    circle.self = circle;
    for (const output of [null, 0, "", false, [], { a: [{ b: null }] }, "x".repeat(128 * 1024 - 2), { at: new Date(0) }]) {
      assert.deepEqual(sendable(output), { output });
    }
    for (const output of [
      undefined, "x".repeat(128 * 1024 - 1), "é".repeat(64 * 1024), circle, 10n, NaN, -0, () => 1, Symbol("s"),
      new Map(), new Set(), /x/, new URL("http://x"), { a: { b: undefined } }, [Infinity], new Date(NaN), new (class A {})(),
    ]) {
      assert.deepEqual(sendable(output), { outputOmitted: true });
    }
  });

  test("a retry of one event has the same id and body, and each try its own signature", async () => {
    answers = [{ status: 500, body: {} }, { status: 200, body: {} }];
    await report("RUN_STARTED", context());
    assert.equal(requests.length, 2);
    assert.equal(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"]);
    assert.equal(requests[0].body, requests[1].body);
  });

  for (const [name, answer] of [
    ["an error", { status: 500, body: {} }],
    ["a refusal", { status: 401, body: {} }],
    ["a lost connection", "reset"],
  ]) {
    test(`${name} is logged, and the run goes on`, async () => {
      answers = [answer];
      await report("RUN_STARTED", context());
      assert.equal(console.warn.mock.callCount(), 1);
      assert.ok(!JSON.stringify(console.warn.mock.calls[0].arguments).includes(SECRET));
    });
  }

  test("missing settings are logged, and the run goes on", async () => {
    delete process.env.ADAPTER_WEBHOOK_SECRET;
    await report("RUN_STARTED", context());
    assert.equal(console.warn.mock.callCount(), 1);
    assert.equal(requests.length, 0);
  });

  test("a run of no job sends nothing, and says nothing", async () => {
    delete process.env.ADAPTER_URL;
    await report("RUN_STARTED", context({ tags: ["vip"] }));
    assert.equal(requests.length + console.warn.mock.callCount(), 0);
  });
});

describe("in the SDK's executor", () => {
  let steps;
  let signal;

  beforeEach(async () => {
    lifecycleHooks.disable();
    lifecycleHooks.setGlobalLifecycleHooksManager(new StandardLifecycleHooksManager());
    registerStartFence();
    registerAdapterHooks();
    steps = [];
    signal = new AbortController().signal;
    const step = (name) => async () => void steps.push(name);
    lifecycleHooks.registerTaskInitHook("t", { fn: step("init") });
    lifecycleHooks.registerTaskStartHook("t", { fn: step("onStart") });
    lifecycleHooks.registerTaskFailureHook("t", { fn: step("onFailure") });
    lifecycleHooks.registerTaskCompleteHook("t", { fn: step("onComplete") });
    lifecycleHooks.registerTaskCatchErrorHook("t", { fn: step("catchError") });
    lifecycleHooks.registerTaskCleanupHook("t", { fn: step("cleanup") });
    lifecycleHooks.registerTaskMiddlewareHook("t", {
      fn: async ({ next }) => {
        steps.push("middleware");
        await next();
      },
    });
  });

  async function execute(run, { retry } = {}) {
    const ctx = { ...context(), environment: { id: "e", slug: "prod", type: "PRODUCTION" } };
    const task = { id: "t", retry, fns: { run } };
    const span = { setAttributes() {}, recordException() {}, setStatus() {} };
    const tracer = { startActiveSpan: (_name, body) => body(span) };
    const consoleInterceptor = { intercept: (_console, body) => body() };
    const execution = { ...ctx, run: { ...ctx.run, payload: "{}", payloadType: "application/json" } };
    const { result } = await new TaskExecutor(task, { tracer, consoleInterceptor }).execute(execution, ctx, signal);
    return result;
  }

  test("the claim comes before all user code, the report of the end after it", async () => {
    const result = await execute(async () => {
      steps.push(`run after ${paths().join(" ")}`);
      return { n: 1 };
    });
    assert.equal(result.ok, true);
    assert.deepEqual(JSON.parse(result.output).json, { n: 1 });
    const asked = "/api/trigger/claim /api/trigger/webhook";
    assert.deepEqual(steps, ["middleware", "init", "onStart", `run after ${asked}`, "onComplete", "cleanup"]);
    assert.deepEqual([1, 2].map((index) => sent(index).type), ["RUN_STARTED", "RUN_COMPLETED"]);
    assert.deepEqual(sent(2).data.run.output, { n: 1 });
  });

  test("a refused run touches no user code at all", async () => {
    answers = [{ status: 409, body: { claimed: false, reason: "canceled" } }];
    const result = await execute(async () => steps.push("run"), { retry: { maxAttempts: 3 } });
    assert.deepEqual(steps, []);
    assert.deepEqual(paths(), ["/api/trigger/claim"]);
    assert.equal(result.ok, false);
    // The executor calls whatever a middleware throws by one name, also what says that it is final.
    assert.equal(result.error.code, "TASK_MIDDLEWARE_ERROR");
    assert.equal(result.error.message, "AbortTaskRunError: the adapter refused the start of this run: canceled");
    assert.equal(result.retry, undefined);
  });

  test("an unreachable adapter touches no user code either", async () => {
    answers = ["reset"];
    const result = await execute(async () => steps.push("run"));
    assert.deepEqual(steps, []);
    assert.equal(result.ok, false);
    assert.match(result.error.message, /^AdapterUnreachableError: /);
  });

  test("an outage between claim and end does not fail the run", async () => {
    answers = [{ status: 200, body: { claimed: true } }, "reset"];
    const result = await execute(async () => "done");
    assert.equal(result.ok, true);
    assert.equal(console.warn.mock.callCount(), 2);
  });

  test("a failure is reported when no attempt is left, not before", async () => {
    const fails = async () => {
      throw new RangeError("too far");
    };
    const first = await execute(fails, { retry: { maxAttempts: 2, minTimeoutInMs: 1, maxTimeoutInMs: 1 } });
    assert.ok(first.retry);
    assert.deepEqual(requests.slice(1).map((request) => JSON.parse(request.body).type), ["RUN_STARTED"]);
    requests = [];
    const last = await execute(fails, { retry: { maxAttempts: 1 } });
    assert.equal(last.retry, undefined);
    assert.deepEqual([1, 2].map((index) => sent(index).type), ["RUN_STARTED", "RUN_FAILED"]);
    const { error } = sent(2).data.run;
    assert.deepEqual([error.name, error.message], ["RangeError", "too far"]);
    assert.match(error.stack, /RangeError: too far/);
  });

  test("a cancel is reported while the run is still executing", async () => {
    await execute(async () => {
      await lifecycleHooks.callOnCancelHookListeners();
      return 1;
    });
    assert.ok(requests.slice(1).map((request) => JSON.parse(request.body).type).includes("RUN_CANCELED"));
  });
});
