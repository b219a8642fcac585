// Uses the client that @hey-api/openapi-ts generates.
import { setTimeout } from "node:timers/promises";

import { client } from "./hey-api/client.gen.js";
import { Crm } from "./hey-api/sdk.gen.js";
import type { Job } from "./hey-api/types.gen.js";

client.setConfig({ baseUrl: process.env.CRM_URL!, auth: process.env.CRM_API_KEY! });
const crm = new Crm({ client });
const throwOnError = true;

const { data: lead } = await crm.leads.create({
  body: { name: "Ada Lovelace", email: "ada@hey-api.example" },
  throwOnError,
});

const { data: leads } = await crm.leads.list({ query: { limit: 10, email: ["ada@hey-api.example"] }, throwOnError });
if (leads.length !== 1 || leads[0]!.id !== lead.id) throw new Error(JSON.stringify(leads));

const file = new Blob(["Name,Email\nGrace Hopper,grace@hey-api.example\nNo Address,nobody\n"], { type: "text/csv" });
let job: Job = (await crm.leads.importFile({ body: { file }, throwOnError })).data;
while (job.finished_at === null) {
  await setTimeout(100);
  job = (await crm.jobs.get({ path: { jobId: job.id }, throwOnError })).data;
}
if (job.kind !== "import_leads" || job.result?.created !== 1 || job.result.failed !== 1) {
  throw new Error(JSON.stringify(job));
}

const { data: exported } = await crm.leads.export({ throwOnError });
const lines = exported.trim().split("\r\n");
console.log(`imported ${job.result.rows} rows, exported ${lines.length - 1} leads`);
