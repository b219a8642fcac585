// Uses openapi-fetch with the types that openapi-typescript generates.
import { setTimeout } from "node:timers/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./openapi-typescript/schema.js";

const client = createClient<paths>({
  baseUrl: process.env.CRM_URL!,
  headers: { Authorization: `Bearer ${process.env.CRM_API_KEY}` },
});

/** The data of a response; throws the error of one that has none. */
function data<T>({ data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const body = { name: "Ada Lovelace", email: "ada@openapi-fetch.example" };
const lead = data(await client.POST("/dev/crm/leads", { body }));

const query = { limit: 10, email: ["ada@openapi-fetch.example"] };
const leads = data(await client.GET("/dev/crm/leads", { params: { query } }));
if (leads.length !== 1 || leads[0]!.id !== lead.id) throw new Error(JSON.stringify(leads));

const form = new FormData();
form.append("file", new Blob(["Name,Email\nGrace Hopper,grace@openapi-fetch.example\nNo Address,nobody\n"]), "leads.csv");
const upload = { body: { file: "" }, bodySerializer: () => form };
let job: components["schemas"]["Job"] = data(await client.POST("/dev/crm/leads/import", upload));
while (job.finished_at === null) {
  await setTimeout(100);
  job = data(await client.GET("/dev/crm/jobs/{jobId}", { params: { path: { jobId: job.id } } }));
}
if (job.kind !== "import_leads" || job.result?.created !== 1 || job.result.failed !== 1) {
  throw new Error(JSON.stringify(job));
}

const exported = data(await client.GET("/dev/crm/leads/export", { parseAs: "text" }));
console.log(`imported ${job.result.rows} rows, exported ${exported.trim().split("\r\n").length - 1} leads`);
