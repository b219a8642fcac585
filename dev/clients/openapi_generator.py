"""Uses the client that openapi-generator generates for Python."""

import os
import time

import crm_client
from crm_client import Configuration, ImportLeadsJob, JobsApi, LeadCreate, LeadsApi

FILE = b"Name,Email\nGrace Hopper,grace@generator.example\nNo Address,nobody\n"

configuration = Configuration(host=os.environ["CRM_URL"], access_token=os.environ["CRM_API_KEY"])
with crm_client.ApiClient(configuration) as client:
    leads, jobs = LeadsApi(client), JobsApi(client)

    lead = leads.create(LeadCreate(name="Ada Lovelace", email="ada@generator.example"))
    assert lead.created_at is not None, lead

    listed = leads.list(limit=10, email=["ada@generator.example"])
    assert [each.id for each in listed] == [lead.id], listed

    job = leads.import_file(file=("leads.csv", FILE))
    while job.finished_at is None:
        time.sleep(0.1)
        job = jobs.get(job.id).actual_instance
    assert isinstance(job, ImportLeadsJob), job
    result = job.result
    assert (result.created, result.failed) == (1, 1), job

    lines = leads.export().splitlines()
    print(f"imported {result.rows} rows, exported {len(lines) - 1} leads")
