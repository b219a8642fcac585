"""Uses the client that openapi-python-client generates."""

import io
import os
import time

from crm_client import AuthenticatedClient
from crm_client.api.jobs import jobs_get
from crm_client.api.leads import leads_create, leads_export, leads_import_file, leads_list
from crm_client.models import FileUpload, ImportLeadsJob, Lead, LeadCreate
from crm_client.types import File

FILE = b"Name,Email\nGrace Hopper,grace@python-client.example\nNo Address,nobody\n"

client = AuthenticatedClient(base_url=os.environ["CRM_URL"], token=os.environ["CRM_API_KEY"])

lead = leads_create.sync(client=client, body=LeadCreate(name="Ada Lovelace", email="ada@python-client.example"))
assert isinstance(lead, Lead), lead

leads = leads_list.sync(client=client, limit=10, email=["ada@python-client.example"])
assert [listed.id for listed in leads] == [lead.id], leads

upload = FileUpload(file=File(payload=io.BytesIO(FILE), file_name="leads.csv", mime_type="text/csv"))
job = leads_import_file.sync(client=client, body=upload)
while job.finished_at is None:
    time.sleep(0.1)
    job = jobs_get.sync(client=client, job_id=job.id)
assert isinstance(job, ImportLeadsJob), job
assert (job.result.created, job.result.failed) == (1, 1), job

lines = leads_export.sync(client=client).splitlines()
print(f"imported {job.result.rows} rows, exported {len(lines) - 1} leads")
