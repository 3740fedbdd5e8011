// Shows one job in three ways, and tells the page's own server whenever what is shown has changed.
import { useRealtimeRun } from "@trigger.dev/react-hooks";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useJobStatus } from "../../../../examples/use_job_status/useJobStatus";

const { api, run, token }: Record<string, string> = await (await fetch("/job")).json();

function Realtime() {
  const { run: state, error } = useRealtimeRun(run, { accessToken: token, baseURL: api });
  const progress = (state?.metadata?.progress as { value: number } | undefined)?.value ?? 0;
  return <p>realtime {error ? error.message : `${state?.status} ${progress > 0} ${JSON.stringify(state?.output ?? null)}`}</p>;
}

function Stream() {
  const { status, error } = useJobStatus(run, token, api);
  return <p>stream {error ? error.message : `${status?.status} ${JSON.stringify(status?.result ?? null)}`}</p>;
}

/** As in the guides: an EventSource, which sends no headers. It is told to stay away once the job has ended. */
function Source() {
  const [shown, show] = useState("nothing");
  useEffect(() => {
    const source = new EventSource(`${api}/api/jobs/${run}/stream?token=${token}`);
    source.onmessage = (event) => show(JSON.parse(event.data).status);
    source.onerror = () => source.readyState === EventSource.CLOSED && show((status) => `${status} closed`);
    return () => source.close();
  }, []);
  return <p>source {shown}</p>;
}

const page = document.getElementById("page")!;
new MutationObserver(() => {
  void fetch("/shown", { method: "POST", body: page.innerText });
}).observe(page, { childList: true, characterData: true, subtree: true });
createRoot(page).render(<><Realtime /><Stream /><Source /></>);
