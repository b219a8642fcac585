// The configuration of @hey-api/openapi-ts: operations become `crm.leads.list()`.
export default {
  input: process.env.CRM_DOCUMENT,
  output: { path: "hey-api", importFileExtension: ".js" },
  plugins: [
    "@hey-api/client-fetch",
    "@hey-api/typescript",
    { name: "@hey-api/sdk", operations: { strategy: "single", containerName: "Crm", nesting: "operationId" } },
  ],
};
